//! The responses that a run trained on: those of its data, or those that it wrote, round by round.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::curve::{Curve, Point};
use super::read::Unread;

/// Responses, in groups.
pub struct Written {
    /// A run's data is one group; of a run in rounds, groups are rounds, at most [`ROUNDS`] of them, spread evenly.
    pub groups: Vec<ResponseGroup>,
}

/// Responses that stand together.
pub struct ResponseGroup {
    /// `data`, or `round 3`.
    pub name: String,
    /// The step before which a round's responses were written, and after which they were first trained on.
    pub step: Option<u64>,
    pub rewards: Vec<f64>,
    /// In tokens; where not every row has its token ids, in characters.
    pub lengths: Vec<f64>,
    pub in_tokens: bool,
    /// The share of responses that were cut off, where rows say how they ended.
    pub cut_off: Option<f64>,
    /// The first right ones and the first others.
    pub shown: Vec<Shown>,
}

/// A response to be read.
pub struct Shown {
    pub prompt: String,
    pub completion: String,
    pub reward: Option<f64>,
}

/// Rounds that are read for a page.
const ROUNDS: usize = 24;
/// Responses of a kind, right or not, that are kept of a group.
const SHOWN: usize = 2;

/// What counts of a row; rows that are pairs, or in other trainers' forms, have no response of ours to count.
#[derive(Deserialize)]
struct Row {
    prompt: Option<Value>,
    #[serde(alias = "response")]
    completion: Option<Value>,
    reward: Option<f64>,
    label: Option<bool>,
    completion_ids: Option<Vec<IgnoredAny>>,
    finish_reason: Option<String>,
}

impl Written {
    /// Those of a file of rows.
    ///
    /// # Errors
    /// Where no row has a response.
    pub fn of_data(text: &str) -> Result<Self, Unread> {
        let group = ResponseGroup::of(text, "data".to_owned(), None);
        let none = || Unread::Gone { path: "data".to_owned(), why: "has no row with a `completion`".to_owned() };
        Ok(Self { groups: vec![group.ok_or_else(none)?] })
    }

    /// Those of the rounds that a run has begun to train on; `round` is the metric that counts them.
    ///
    /// # Errors
    /// Where the first of the rounds' files that were to be read is not there.
    pub fn of_rounds(run: &Path, round: &Curve) -> Result<Self, Unread> {
        let mut firsts: Vec<Point> = round.points.clone();
        firsts.dedup_by_key(|point| point.value as u64);
        let count = firsts.len();
        let spread = (0..count.min(ROUNDS)).map(|index| firsts[index * (count - 1) / (count.min(ROUNDS) - 1).max(1)]);
        let group = |point: Point| {
            let number = point.value as u64;
            let path: PathBuf = run.join("rollouts").join(format!("round-{number:06}.jsonl"));
            let gone = |why: String| Unread::Gone { path: path.display().to_string(), why };
            let text = std::fs::read_to_string(&path).map_err(|error| gone(format!("cannot be read: {error}")))?;
            let group = ResponseGroup::of(&text, format!("round {number}"), Some(point.step));
            group.ok_or_else(|| gone("has no row with a `completion`".to_owned()))
        };
        Ok(Self { groups: spread.map(group).collect::<Result<_, _>>()? })
    }

    /// What rounds show over the run, as curves.
    pub fn curves(&self) -> Vec<Curve> {
        let curve = |metric: &str, value: &dyn Fn(&ResponseGroup) -> Option<f64>| {
            let point = |group: &ResponseGroup| Some(Point { step: group.step?, value: value(group)? });
            let points: Vec<Point> = self.groups.iter().filter_map(point).collect();
            (!points.is_empty()).then(|| Curve { metric: metric.to_owned(), points })
        };
        let mean = |group: &ResponseGroup| {
            group.in_tokens.then(|| group.lengths.iter().sum::<f64>() / group.lengths.len() as f64)
        };
        let cut_off = |group: &ResponseGroup| group.cut_off;
        [curve("responses/length", &mean), curve("responses/cut_off", &cut_off)].into_iter().flatten().collect()
    }
}

impl ResponseGroup {
    fn of(text: &str, name: String, step: Option<u64>) -> Option<Self> {
        let rows: Vec<Row> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let rows: Vec<&Row> =
            rows.iter().filter(|row| row.completion.is_some() || row.completion_ids.is_some()).collect();
        let in_tokens = rows.iter().all(|row| row.completion_ids.is_some());
        let length = |row: &&Row| match (&row.completion_ids, &row.completion) {
            (Some(ids), _) if in_tokens => Some(ids.len() as f64),
            (_, Some(completion)) => Some(text_of(completion).chars().count() as f64),
            _ => None,
        };
        let ended: Vec<&str> = rows.iter().filter_map(|row| row.finish_reason.as_deref()).collect();
        let cut = ended.iter().filter(|reason| **reason == "length").count();
        let is_right = |row: &Row| row.reward().is_some_and(|reward| reward > 0.5);
        let readable = || rows.iter().filter_map(|row| row.shown().map(|shown| (is_right(row), shown)));
        let of_kind = |right: bool| readable().filter(move |(is, _)| *is == right).take(SHOWN).map(|(_, shown)| shown);
        (!rows.is_empty()).then(|| Self {
            name,
            step,
            rewards: rows.iter().filter_map(|row| row.reward()).filter(|reward| reward.is_finite()).collect(),
            lengths: rows.iter().filter_map(length).collect(),
            in_tokens,
            cut_off: (!ended.is_empty()).then(|| cut as f64 / ended.len() as f64),
            shown: of_kind(true).chain(of_kind(false)).collect(),
        })
    }
}

impl Row {
    fn reward(&self) -> Option<f64> {
        self.reward.or(self.label.map(|label| f64::from(u8::from(label))))
    }

    fn shown(&self) -> Option<Shown> {
        let completion = text_of(self.completion.as_ref()?);
        Some(Shown { prompt: self.prompt.as_ref().map(text_of).unwrap_or_default(), completion, reward: self.reward() })
    }
}

/// Text, or what messages say.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(messages) => {
            let said = messages.iter().filter_map(|message| message["content"].as_str());
            said.collect::<Vec<_>>().join("\n\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_what_they_say() {
        let rows = r#"{"prompt":"a","completion":"xyz","reward":1,"completion_ids":[1,2],"finish_reason":"length"}
{"prompt":[{"role":"user","content":"b"}],"response":[{"role":"assistant","content":"w"}],"label":false,"completion_ids":[3],"finish_reason":"stop"}
{"chosen":"c","rejected":"d"}
"#;
        let Ok(Written { groups }) = Written::of_data(rows) else { panic!("rows with responses") };
        let group = &groups[0];
        assert_eq!((&group.rewards[..], &group.lengths[..]), (&[1.0, 0.0][..], &[2.0, 1.0][..]));
        assert_eq!((group.in_tokens, group.cut_off), (true, Some(0.5)));
        let shown: Vec<_> = group.shown.iter().map(|shown| (&shown.prompt[..], &shown.completion[..])).collect();
        assert_eq!(shown, [("a", "xyz"), ("b", "w")]);
        let Ok(in_text) = Written::of_data(&rows.replace("\"completion_ids\":[3],", "")) else { panic!("text") };
        assert_eq!((&in_text.groups[0].lengths[..], in_text.groups[0].in_tokens), (&[3.0, 1.0][..], false));
        assert!(Written::of_data("{\"chosen\":\"c\",\"rejected\":\"d\"}\n").is_err());
    }
}
