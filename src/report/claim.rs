//! What each run did, in a sentence made of its metrics.

use super::curve::Curve;
use super::curves::swatch;
use super::number::{duration, percent, short};
use super::page::escape;
use super::run::RunRecord;

/// What the runs did, a sentence each.
pub fn claims(runs: &[RunRecord]) -> String {
    let item = |(index, run): (usize, &RunRecord)| format!("<li>{} {}</li>\n", swatch(index), escape(&sentence(run)));
    let items: String = runs.iter().enumerate().map(item).collect();
    format!("<section class=\"claims\"><ul>\n{items}</ul></section>\n")
}

fn sentence(run: &RunRecord) -> String {
    let method = run.setting("method").unwrap_or("training");
    let steps = run.last_step();
    let tokens = run.clock.tokens.last().map(|tokens| format!("{} tokens", short(*tokens, 4)));
    let seconds = run.clock.seconds.last().map(|seconds| duration(*seconds));
    let spent: Vec<String> = [tokens, seconds].into_iter().flatten().collect();
    let spent = if spent.is_empty() { String::new() } else { format!(" ({})", spent.join(", ")) };
    let so_far = if run.is_training { " so far" } else { "" };
    let plural = if steps == 1 { "" } else { "s" };
    format!("{}: {method}, {} step{plural}{spent}{so_far}: {}.", run.name, short(steps as f64, 4), outcome(run))
}

/// What came of it: the accuracy where it was evaluated; the reward where the policy itself wrote the responses, as else it
/// is the data's; or the loss.
fn outcome(run: &RunRecord) -> String {
    let online = run.setting("method") == Some("ppo");
    match (run.curve("eval/accuracy"), run.curve("rewards/mean").filter(|_| online)) {
        (Some(accuracy), Some(reward)) => format!("{}, and {}", accuracies(accuracy), rewards(reward)),
        (Some(accuracy), None) => accuracies(accuracy),
        (None, Some(reward)) => format!("{}; it was not evaluated", rewards(reward)),
        (None, None) => match run.curve("loss") {
            Some(loss) => format!("{}; it was not evaluated", losses(loss)),
            None => "it was not evaluated".to_owned(),
        },
    }
}

fn accuracies(accuracy: &Curve) -> String {
    let (first, last) = (accuracy.points[0], accuracy.last());
    let place = |step| if step == 0 { "before training".to_owned() } else { format!("at step {step}") };
    if accuracy.points.len() == 1 {
        return format!("accuracy {} {}", percent(last.value), place(last.step));
    }
    let best = accuracy.points.iter().fold(first, |best, point| if point.value > best.value { *point } else { best });
    let best = match best.value > last.value {
        true => format!(", the best {} {}", percent(best.value), place(best.step)),
        false => String::new(),
    };
    format!(
        "accuracy from {} {} to {} {}{best}",
        percent(first.value),
        place(first.step),
        percent(last.value),
        place(last.step)
    )
}

fn rewards(reward: &Curve) -> String {
    let (first, last) = (reward.points[0].value, reward.last().value);
    format!("mean reward from {} in the first round to {} in the last", short(first, 3), short(last, 3))
}

/// Losses are noisy: the means of the first and of the last tenth.
fn losses(loss: &Curve) -> String {
    let tenth = loss.points.len().div_ceil(10);
    let mean =
        |points: &[super::curve::Point]| short(points.iter().map(|point| point.value / points.len() as f64).sum(), 3);
    let (first, last) = (mean(&loss.points[..tenth]), mean(&loss.points[loss.points.len() - tenth..]));
    match loss.points.len() {
        1 => format!("loss {first}"),
        _ => format!("loss from {first} to {last} (means of the first and the last tenth of the steps)"),
    }
}
