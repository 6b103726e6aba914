//! `--shard K/N`: a part of the runs, for a job array or several processes side by side.

use pbe::error::{Error, Result};

/// The runs whose number, from 0, leaves `rest` when divided by `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    rest: usize,
    parts: usize,
}

impl Shard {
    /// From `K/N`, K from 1 to N.
    pub fn parse(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((k, parts)) if (1..=parts).contains(&k) => Ok(Self { rest: k - 1, parts }),
            _ => Err(Error::input(format!("--shard {text}: it is K/N, with K from 1 to N"))),
        }
    }

    /// Whether run `number` is in it.
    pub fn has(self, number: usize) -> bool {
        number % self.parts == self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_in_one_shard() {
        let shards = ["1/3", "2/3", "3/3"].map(|text| Shard::parse(text).unwrap());
        assert!((0..20).all(|run| shards.iter().filter(|shard| shard.has(run)).count() == 1));
        for wrong in ["9/8", "0/8", "8", "1/0", "a/b", "-1/2", "1/2/3", ""] {
            let error = Shard::parse(wrong).unwrap_err();
            assert_eq!((error.exit_code(), error.to_string().contains("--shard")), (2, true), "{wrong}");
        }
    }
}
