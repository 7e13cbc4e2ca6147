//! Problems as a model is asked them.

use anyhow::{Context, Result};

use crate::data::{ModelLimits, Problem, ProblemFile, Tokenizer};

/// Problems and the tokens of their prompts.
pub struct AskedProblems {
    pub file: ProblemFile,
    /// One a problem.
    pub prompts: Vec<Vec<u32>>,
}

impl AskedProblems {
    /// The first `most` problems of a file, as a model of these limits is asked them.
    ///
    /// # Errors
    /// Names the file and the line that does not fit the model.
    pub fn new(mut file: ProblemFile, most: Option<usize>, tokenizer: &Tokenizer, limits: ModelLimits) -> Result<Self> {
        file.problems.truncate(most.unwrap_or(usize::MAX));
        let mut prompts = Vec::with_capacity(file.problems.len());
        for problem in &file.problems {
            let place = || file.place(problem);
            let ids = tokenizer.prompt(&problem.prompt).with_context(place)?;
            limits.check_prompt(&ids, place)?;
            prompts.push(ids);
        }
        Ok(Self { file, prompts })
    }

    /// No problems that anybody asks: prompts of this many tokens at most, for a plan.
    pub fn assumed(longest: usize) -> Self {
        let file = ProblemFile { path: "assumed problems".into(), problems: Vec::new() };
        Self { file, prompts: vec![vec![0; longest], vec![0]] }
    }

    /// The problem with this number, from 0.
    pub fn problem(&self, index: usize) -> &Problem {
        &self.file.problems[index]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// Never: a file without problems is an error.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// Tokens of the longest prompt.
    pub fn longest(&self) -> usize {
        self.prompts.iter().map(Vec::len).max().unwrap_or(0)
    }
}
