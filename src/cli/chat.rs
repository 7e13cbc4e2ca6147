//! `dqo-wgpu chat`: a conversation with a policy, on the terminal or by a pipe.

use anyhow::{Context, Result, bail};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};

use super::chat_judge::Judge;
use super::chat_lines::Lines;
use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print, print_text};
use crate::data::ModelLimits;
use crate::objective::range::{MOST_TOKENS, count};
use crate::progress::say;
use crate::sample::{Conversation, Finish, Generated, PolicyOptions, Request, SamplingSettings, Writer};

#[derive(Args)]
pub struct ChatArgs {
    #[command(flatten)]
    config: ChatConfig,
    #[command(flatten)]
    file: ConfigOption,
}

#[derive(Args, Serialize, Deserialize)]
struct ChatConfig {
    #[command(flatten)]
    #[serde(flatten)]
    policy: PolicyOptions,
    /// A value network, such as OUT/final/value, or its adapters over --model: V at the end of each answer, and where it is
    /// lowest
    #[arg(long, value_name = "DIR|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What the system message says
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// Tokens before an answer at most; the oldest turns are forgotten where there are more [default: 4096, or what leaves the
    /// model's context room for an answer]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    sampling: SamplingSettings,
}

/// Tokens before an answer at most, where nothing is said and the model has room for more.
const MOST_BEFORE: usize = 4096;

const HELP: &str = "/reset forgets what was said, /system TEXT sets what the system message says (without TEXT there is none), \
                    /quit ends; Ctrl-C stops an answer. A message that begins with / is written after a space.";

/// What a line asks for.
enum Asked<'a> {
    Nothing,
    Help,
    Quit,
    Reset,
    System(&'a str),
    Answer(&'a str),
}

/// A conversation under way.
struct Chat {
    conversation: Conversation,
    writer: Writer,
    judge: Option<Judge>,
    limits: ModelLimits,
    /// Tokens before an answer at most.
    most_before: usize,
    sampling: SamplingSettings,
    seed: u64,
    /// Answers so far: each has its own draws.
    answers: u64,
}

pub fn run(args: ChatArgs, matches: &ArgMatches) -> Result<Ended> {
    let config: ChatConfig = merge(args.config, matches)?;
    let mut lines = Lines::open()?;
    let mut chat = Chat::open(config)?;
    interrupt::listen_in_turns()?;
    if lines.is_terminal() {
        say(HELP);
    }
    loop {
        let Some(line) = interrupt::in_users_turn(|| lines.next())? else { return Ok(Ended::Done) };
        let done = Asked::of(&line).and_then(|asked| chat.turn(asked));
        match (done, lines.place()) {
            (Ok(Turned::Quit), _) => return Ok(Ended::Done),
            (Ok(Turned::Stopped), Some(_)) => return Ok(Ended::Interrupted),
            (Ok(_), _) => {}
            // Who sits there may say something else.
            (Err(error), None) => say(format_args!("error: {error:#}")),
            (Err(error), Some(place)) => return Err(error.context(place)),
        }
    }
}

/// What became of a line.
enum Turned {
    Done,
    /// An answer was stopped by its reader.
    Stopped,
    Quit,
}

impl<'a> Asked<'a> {
    fn of(line: &'a str) -> Result<Self> {
        let text = line.trim();
        let (command, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        Ok(match (command, rest.trim()) {
            ("/help", "") => Self::Help,
            ("/quit", "") => Self::Quit,
            ("/reset", "") => Self::Reset,
            ("/system", text) => Self::System(text),
            (command, _) if command.starts_with('/') => {
                bail!(
                    "there is no {command} of this form; /help says what there is, and a message is written after a space"
                )
            }
            _ if text.is_empty() => Self::Nothing,
            _ => Self::Answer(text),
        })
    }
}

impl Chat {
    fn open(config: ChatConfig) -> Result<Self> {
        let ChatConfig { policy: options, value, system, max_length, sampling } = config;
        sampling.check()?;
        count("--max-length", max_length.unwrap_or(1), MOST_TOKENS)?;
        let files = options.open()?;
        let limits = files.config.limits();
        let context = limits.context_length;
        let most_before = match max_length {
            Some(most) if most >= context => {
                bail!("--max-length is {most}; the model's context of {context} must leave room for an answer")
            }
            Some(most) => most,
            // An answer has the room that it may take, or half of the context where that is less.
            None => MOST_BEFORE.min(context - sampling.max_new_tokens.min(context / 2)),
        };
        let writer = options.load(files, &sampling, most_before, 1)?;
        let room = writer.generator.sizes().tokens;
        let judge = |value: &String| Judge::open(value, &options.model, limits.vocab_size, room, &writer.device);
        Ok(Self {
            conversation: Conversation::new(&system.unwrap_or_default()),
            judge: value.as_ref().map(judge).transpose()?,
            writer,
            limits,
            most_before,
            sampling,
            seed: options.seed,
            answers: 0,
        })
    }

    fn turn(&mut self, asked: Asked) -> Result<Turned> {
        match asked {
            Asked::Nothing => {}
            Asked::Help => say(HELP),
            Asked::Quit => return Ok(Turned::Quit),
            Asked::Reset => self.conversation.reset(),
            Asked::System(text) => self.conversation.set_system(text),
            Asked::Answer(said) => return self.answer(said),
        }
        Ok(Turned::Done)
    }

    /// Writes an answer as it grows. The whole conversation goes into the cache again at each turn: a template may write what
    /// was said before in another way, and the tokens of an answer's text need not be those that were drawn.
    fn answer(&mut self, said: &str) -> Result<Turned> {
        let Self { conversation, writer, judge, limits, most_before, sampling, seed, answers } = self;
        let Writer { tokenizer, policy, generator, .. } = writer;
        let prompt = conversation.prompt(said, tokenizer, *limits, *most_before)?;
        if prompt.forgotten > 0 {
            let turns = if prompt.forgotten == 1 { "turn is" } else { "turns are" };
            say(format_args!("{} {turns} forgotten: there is room for {most_before} tokens", prompt.forgotten));
        }
        let request = Request { prompt_ids: prompt.prompt_ids.clone(), seed: *seed, stream: *answers };
        *answers += 1;
        let mut stream = tokenizer.stream()?;
        let mut completion_ids = Vec::new();
        let step = |_, token| {
            completion_ids.push(token);
            print_text(&stream.push(token)?);
            Ok(!interrupt::is_requested())
        };
        let mut finish = None;
        let finished = |response: Generated| {
            finish = Some(response.finish);
            Ok(true)
        };
        generator.run(policy, [request], sampling, step, finished)?;
        print("");
        if finish == Some(Finish::Length) {
            say(format_args!("the answer is cut off after {} tokens", completion_ids.len()));
        }
        conversation.add(said.to_owned(), tokenizer.decode(&completion_ids)?);
        if let Some(judge) = judge {
            let judged = judge.look(prompt.prompt_ids, completion_ids, tokenizer);
            print(judged.context("the values of the answer")?);
        }
        Ok(if finish.is_none() { Turned::Stopped } else { Turned::Done })
    }
}
