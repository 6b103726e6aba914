//! Patches of PTX text before it is loaded, for mutation testing: does a program's test suite notice that
//! a kernel is broken?
//!
//! A patch names a kernel, a piece of its text, and what to put there. It never goes by unnoticed: one
//! that doesn't fit the kernel exactly once is an error.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The kernel's name, as it stands after `.entry`.
    pub kernel: String,
    /// What is looked for from there to the end of its body. White space matches any other white space,
    /// and a name or number only a whole one: `%r1` isn't found in `%r12`.
    pub find: String,
    /// What is put there.
    pub replace: String,
    /// Which of several places, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<usize>,
}

/// A patch that was made, as a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The patch.
    pub patch: Patch,
    /// Where, in the text with the patches before this one.
    pub line: usize,
}

/// A patch that can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("patch of {kernel}: `{find}` is there {count} times, {wanted}")]
pub struct PatchError {
    kernel: String,
    find: String,
    count: usize,
    wanted: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Patch { kernel, find, replace, .. } = &self.patch;
        write!(f, "patch of {kernel}, PTX line {}: `{find}` is now `{replace}`", self.line)
    }
}

/// Reads a list of patches, as JSON.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(json: &[u8]) -> Result<Vec<Patch>, String> {
    let patches: Vec<Patch> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    for (number, patch) in patches.iter().enumerate() {
        if patch.find.trim().is_empty() {
            return Err(format!("patch {} of {}: nothing to find", number + 1, patch.kernel));
        }
        if patch.occurrence == Some(0) {
            return Err(format!("patch {} of {}: occurrences count from 1", number + 1, patch.kernel));
        }
    }
    Ok(patches)
}

/// The text with those patches, one after the other, whose kernels it has; and which they were.
///
/// # Errors
/// A kernel doesn't have what is to be found, or more of it and no [`Patch::occurrence`] says which.
pub fn apply(text: &str, patches: &[Patch]) -> Result<(String, Vec<Done>), PatchError> {
    let (mut text, mut done) = (text.to_string(), Vec::new());
    for patch in patches {
        let Some(kernel) = kernel(&text, &patch.kernel) else {
            continue;
        };
        let places = places(&text, kernel, &patch.find);
        let place = match patch.occurrence {
            Some(number) => number.checked_sub(1).and_then(|index| places.get(index)),
            None => places.first().filter(|_| places.len() == 1),
        };
        let Some(place) = place.cloned() else {
            let wanted = match patch.occurrence {
                Some(number) => format!("number {number} is asked for"),
                None => "not once".to_string(),
            };
            let (kernel, find) = (patch.kernel.clone(), patch.find.clone());
            return Err(PatchError { kernel, find, count: places.len(), wanted });
        };
        let line = text[..place.start].matches('\n').count() + 1;
        text.replace_range(place, &patch.replace);
        done.push(Done { patch: patch.clone(), line });
    }
    Ok((text, done))
}

/// From the name after `.entry` to the brace that ends the body.
fn kernel(text: &str, name: &str) -> Option<Range<usize>> {
    let starts = text.match_indices(".entry").map(|(at, word)| at + word.len());
    let start = starts.map(|at| at + leading_space(&text[at..])).find(|&at| {
        let rest = text[at..].strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(is_name))
    })?;
    let mut depth = 0;
    for (at, letter) in text[start..].char_indices() {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if letter == '}' && depth == 0 {
            return Some(start..start + at + 1);
        }
    }
    Some(start..text.len())
}

/// Every place inside `kernel` where `find` is, apart from each other.
fn places(text: &str, kernel: Range<usize>, find: &str) -> Vec<Range<usize>> {
    let words: Vec<&str> = find.split_whitespace().collect();
    let Some((&first, rest)) = words.split_first() else {
        return Vec::new();
    };
    let mut places: Vec<Range<usize>> = Vec::new();
    for (offset, _) in text[kernel.clone()].match_indices(first) {
        let start = kernel.start + offset;
        let end = rest.iter().try_fold(start + first.len(), |end, word| {
            let space = leading_space(&text[end..kernel.end]);
            let after = text[end + space..kernel.end].strip_prefix(word)?;
            (space > 0).then_some(kernel.end - after.len())
        });
        let Some(end) = end.filter(|&end| is_whole(text, start..end)) else {
            continue;
        };
        if places.last().is_none_or(|last| last.end <= start) {
            places.push(start..end);
        }
    }
    places
}

/// Whether neither end is in the middle of a name or number.
fn is_whole(text: &str, range: Range<usize>) -> bool {
    let found = &text[range.clone()];
    let cut =
        |before: Option<char>, after: Option<char>| before.is_some_and(is_name) && after.is_some_and(is_name);
    !cut(text[..range.start].chars().next_back(), found.chars().next())
        && !cut(found.chars().next_back(), text[range.end..].chars().next())
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '$' | '%')
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ".version 7.0\n.visible .entry one(\n\t.param .u64 one_param_0\n)\n{\n\tmov.u32 \t%r1, 5;\n\
        \tmov.u32 \t%r12, 5;\n\tbar.sync \t0;\n\tst {%r1, %r12};\n\tbar.sync \t0;\n}\n\
        .visible .entry one_more()\n{\n\tbar.sync \t0;\n\tret;\n}\n";

    fn patch(kernel: &str, find: &str, replace: &str, occurrence: Option<usize>) -> Patch {
        Patch { kernel: kernel.into(), find: find.into(), replace: replace.into(), occurrence }
    }

    fn patched(patches: &[Patch]) -> String {
        apply(TEXT, patches).unwrap().0
    }

    fn refused(patch: Patch) -> String {
        apply(TEXT, &[patch]).unwrap_err().to_string()
    }

    #[test]
    fn the_place_is_replaced_and_nothing_else() {
        let text = patched(&[patch("one", "mov.u32 %r1, 5;", "mov.u32 %r1, 6;", None)]);
        assert_eq!(text, TEXT.replacen("mov.u32 \t%r1, 5;", "mov.u32 %r1, 6;", 1));
        let text = patched(&[patch("one_more", "bar.sync 0;\nret;", "ret;", None)]);
        assert_eq!(text, TEXT.replace("bar.sync \t0;\n\tret;", "ret;"));
    }

    #[test]
    fn occurrences_are_counted_inside_the_kernel() {
        let (text, done) = apply(TEXT, &[patch("one", "bar.sync 0;", "", Some(2))]).unwrap();
        assert_eq!(text, TEXT.replace("%r12};\n\tbar.sync \t0;", "%r12};\n\t"));
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].to_string(), "patch of one, PTX line 10: `bar.sync 0;` is now ``");
        let text = patched(&[patch("one_more", "bar.sync 0;", "bar.sync 1;", None)]);
        assert_eq!(text, TEXT.replace("()\n{\n\tbar.sync \t0;", "()\n{\n\tbar.sync 1;"));
    }

    #[test]
    fn names_and_numbers_are_whole() {
        let text = patched(&[patch("one", "%r1,", "%r7,", Some(2))]);
        assert_eq!(text, TEXT.replace("{%r1,", "{%r7,"));
        let text = patched(&[patch("one", "u32 %r1", "u32 %r7", None)]);
        assert_eq!(text, TEXT.replace("u32 \t%r1,", "u32 %r7,"));
        assert!(refused(patch("one", "r12", "", None)).contains("0 times"));
    }

    #[test]
    fn patches_follow_each_other() {
        let twice = [patch("one", "%r12, 5", "%r12, 6", None), patch("one", "%r12, 6", "%r12, 7", None)];
        assert!(patched(&twice).contains("mov.u32 \t%r12, 7;"));
    }

    #[test]
    fn a_patch_that_fits_nowhere_or_twice_is_an_error() {
        assert_eq!(
            refused(patch("one", "bar.arrive 0;", "", None)),
            "patch of one: `bar.arrive 0;` is there 0 times, not once"
        );
        assert_eq!(
            refused(patch("one", "bar.sync 0;", "", None)),
            "patch of one: `bar.sync 0;` is there 2 times, not once"
        );
        assert_eq!(
            refused(patch("one", "bar.sync 0;", "", Some(3))),
            "patch of one: `bar.sync 0;` is there 2 times, number 3 is asked for"
        );
        // What is in the next kernel isn't in this one.
        assert!(refused(patch("one", "ret;", "", None)).contains("0 times"));
    }

    #[test]
    fn kernels_of_other_modules_are_left_to_them() {
        assert_eq!(apply(TEXT, &[patch("two", "ret;", "", None)]).unwrap(), (TEXT.to_string(), vec![]));
        // Nor is a kernel the one whose name begins with the same letters.
        assert_eq!(patched(&[patch("on", "bar.sync 0;", "", None)]), TEXT);
    }

    #[test]
    fn lists_are_json() {
        let list = br#"[{"kernel": "one", "find": "ret;", "replace": ""},
            {"kernel": "one", "find": "ret;", "replace": "", "occurrence": 2}]"#;
        let expected = [patch("one", "ret;", "", None), patch("one", "ret;", "", Some(2))];
        assert_eq!(read(list).unwrap(), expected);
        assert_eq!(read(&serde_json::to_vec(&expected).unwrap()).unwrap(), expected);
        for wrong in [
            "{}",
            r#"[{"kernel": "one", "find": "ret;"}]"#,
            r#"[{"kernel": "one", "find": "ret;", "replace": "", "which": 1}]"#,
            r#"[{"kernel": "one", "find": " ", "replace": ""}]"#,
            r#"[{"kernel": "one", "find": "ret;", "replace": "", "occurrence": 0}]"#,
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
