//! The steps of a response: its segments between blank lines, in tokens.

use anyhow::Result;

use crate::data::Tokenizer;

/// A step of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub text: String,
    /// Its first token.
    pub first: usize,
    /// The token after its last, which has the end of the blank line after it; the last segment has the end token too.
    pub end: usize,
}

/// The segments of a response. A token that reaches over a blank line belongs to the segment before it.
///
/// # Errors
/// Where there is no tokenizer.
pub fn segments(tokenizer: &Tokenizer, completion_ids: &[u32]) -> Result<Vec<Segment>> {
    Ok(split(&tokenizer.pieces(completion_ids)?))
}

/// The same, of the text that each token adds.
pub fn split(pieces: &[String]) -> Vec<Segment> {
    split_at(pieces, Parting::BlankLine)
}

/// The lines of a response, of the text that each token adds: what its steps are where it has no blank lines.
pub fn split_lines(pieces: &[String]) -> Vec<Segment> {
    split_at(pieces, Parting::Line)
}

/// What parts segments.
#[derive(Clone, Copy, PartialEq)]
enum Parting {
    BlankLine,
    Line,
}

fn split_at(pieces: &[String], parting: Parting) -> Vec<Segment> {
    let text: String = pieces.concat();
    let ends: Vec<usize> = pieces
        .iter()
        .scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        })
        .collect();
    let mut segments = Vec::new();
    let (mut first, mut start) = (0, 0);
    for boundary in boundaries(&text, parting) {
        // The first token with which the text reaches the boundary.
        let end = ends.partition_point(|&reached| reached < boundary) + 1;
        if end > first && end < pieces.len() {
            segments.push(Segment { text: text[start..boundary].to_owned(), first, end });
            (first, start) = (end, boundary);
        }
    }
    segments.push(Segment { text: text[start..].to_owned(), first, end: pieces.len() });
    segments
}

/// Where the text goes on after the end of a line, or after blank lines: lines of nothing but white space, between lines that
/// have more.
fn boundaries(text: &str, parting: Parting) -> Vec<usize> {
    let mut boundaries = Vec::new();
    let (mut place, mut after_blank, mut any_text) = (0, false, false);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            after_blank |= any_text;
        } else {
            if after_blank || (any_text && parting == Parting::Line) {
                boundaries.push(place);
            }
            (after_blank, any_text) = (false, true);
        }
        place += line.len();
    }
    boundaries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&str]) -> Vec<(String, usize, usize)> {
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        split(&pieces).into_iter().map(|segment| (segment.text, segment.first, segment.end)).collect()
    }

    #[test]
    fn a_response_is_split_at_blank_lines() {
        let text = |text: &str, first, end| (text.to_owned(), first, end);
        // The end token has no text, and belongs to the last segment.
        assert_eq!(of(&["1+1", "=2", "\n", "\n", "####", " 2", ""]), [text("1+1=2\n\n", 0, 4), text("#### 2", 4, 7)]);
        // Blank lines and stops in one token; white space in a blank line; several blank lines.
        assert_eq!(
            of(&["a", ".\n\n", "b", "\n  \n\n", "c"]),
            [text("a.\n\n", 0, 2), text("b\n  \n\n", 2, 4), text("c", 4, 5)]
        );
        // A token over the boundary belongs to the segment before it.
        assert_eq!(of(&["a", "\n\nb", "c"]), [text("a\n\n", 0, 2), text("bc", 2, 3)]);
        // Blank lines at the ends part nothing.
        assert_eq!(of(&["\n\n", "a", "\n\n", ""]), [text("\n\na\n\n", 0, 4)]);
        assert_eq!(of(&["a"]), [text("a", 0, 1)]);
    }

    #[test]
    fn lines_are_parted_where_they_end() {
        let pieces = ["\n", "a", "\n", "b", "\nc", "\n\n", ""].map(str::to_owned);
        let lines: Vec<_> = split_lines(&pieces).into_iter().map(|line| (line.text, line.first, line.end)).collect();
        let line = |text: &str, first, end| (text.to_owned(), first, end);
        // The token that has the end of a line and the next one belongs to the first of them.
        assert_eq!(lines, [line("\na\n", 0, 3), line("b\n", 3, 5), line("c\n\n", 5, 7)]);
    }
}
