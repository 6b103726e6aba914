//! The defences of a comparison: every kind with a clean set, and PBE without one besides.

use pbe::defense::DefenseKind;
use pbe::error::{Error, Result};

/// Ends the names of defences without a clean set.
const WITHOUT: &str = "-no-clean";

/// A defence and what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedDefence {
    pub kind: DefenseKind,
    /// Whether it gets a clean set; else the poisoned training data.
    pub clean_set: bool,
}

impl ComparedDefence {
    /// All there are.
    pub fn all() -> Vec<Self> {
        let with = DefenseKind::ALL.into_iter().map(|kind| Self { kind, clean_set: true });
        let mut all: Vec<Self> = with.collect();
        // The others need a clean set.
        all.push(Self { kind: DefenseKind::Pbe, clean_set: false });
        all
    }

    /// In options, tables and paths.
    pub fn name(self) -> String {
        format!("{}{}", self.kind.name(), if self.clean_set { "" } else { WITHOUT })
    }

    /// The defences that `--defenses` names, each once, in its order.
    pub fn parse(names: &str) -> Result<Vec<Self>> {
        let (all, mut found) = (Self::all(), vec![]);
        for name in names.split(',').map(str::trim) {
            let named = match all.iter().find(|defence| defence.name() == name) {
                Some(defence) => std::slice::from_ref(defence),
                None if name == "all" => &all,
                None => {
                    let known: Vec<String> = all.iter().map(|defence| defence.name()).collect();
                    let text =
                        format!("--defenses: there is no {name:?}; there are all, {}", known.join(", "));
                    return Err(Error::input(text));
                }
            };
            let new: Vec<Self> = named.iter().filter(|defence| !found.contains(*defence)).copied().collect();
            found.extend(new);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_once_and_in_order() {
        let names = |text| -> Vec<String> {
            ComparedDefence::parse(text).unwrap().iter().map(|defence| defence.name()).collect()
        };
        assert_eq!(names("ft, pbe-no-clean,ft,pbe"), ["ft", "pbe-no-clean", "pbe"]);
        assert_eq!(names("all").len(), DefenseKind::ALL.len() + 1);
        assert_eq!(names("ft,all")[0], "ft");
        for wrong in ["", "ft,", "ft-no-clean", "PBE"] {
            let error = ComparedDefence::parse(wrong).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("all, pbe, "), "{error}");
        }
    }

    /// `purify --defense` and config.toml know a kind by the same name.
    #[test]
    fn a_kind_has_one_name() {
        for kind in DefenseKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(toml::Value::try_from(kind).unwrap().as_str(), Some(kind.name()));
        }
    }
}
