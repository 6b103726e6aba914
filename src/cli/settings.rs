//! Every number of a purification as an option: one table, one line for each.

use clap::{Arg, ArgMatches, Command};
use pbe::defense::config::{FilterPass, PurifyConfig};
use pbe::error::{Error, Result};
use std::str::FromStr;

/// An option `--name VALUE` that overrides the recipe.
struct Setting {
    name: &'static str,
    help: &'static str,
    set: fn(&mut PurifyConfig, &str) -> Parsed,
}

type Parsed<T = ()> = std::result::Result<T, String>;

/// `setting!("name", "help", path.in.config)`.
macro_rules! setting {
    ($name:expr, $help:expr, $($field:ident).+) => {
        Setting { name: $name, help: $help, set: |config, text| parse(&mut config.$($field).+, text) }
    };
}

/// The settings of one training step of a round.
macro_rules! phase {
    ($phase:literal, $title:literal, $field:ident) => {
        [
            setting!(concat!($phase, "-epochs"), concat!($title, ": epochs"), $field.epochs),
            setting!(
                concat!($phase, "-batches"),
                concat!($title, ": batches of an epoch at most; 0 for all"),
                $field.batches
            ),
            setting!(
                concat!($phase, "-lr"),
                concat!($title, ": largest learning rate"),
                $field.learning_rate
            ),
            setting!(
                concat!($phase, "-schedule"),
                concat!($title, ": constant, cosine or one-cycle"),
                $field.schedule
            ),
            setting!(
                concat!($phase, "-distill"),
                concat!($title, ": weight of the distillation from the suspect model; 0 for none"),
                $field.distill
            ),
            setting!(
                concat!($phase, "-temperature"),
                concat!($title, ": temperature of the distillation"),
                $field.temperature
            ),
            setting!(
                concat!($phase, "-teacher-cap"),
                concat!(
                    $title,
                    ": probability that the suspect model may at most give another label, in the distillation"
                ),
                $field.teacher_cap
            ),
            setting!(
                concat!($phase, "-average"),
                concat!($title, ": decay of the weight average the step ends with; 0 for none"),
                $field.average
            ),
            setting!(
                concat!($phase, "-patches"),
                concat!($title, ": probability of each of four random patches over an image; 0 for none"),
                $field.patches
            ),
        ]
    };
}

const GENERAL: [Setting; 15] = [
    setting!("batch", "Images of a training step", batch),
    setting!("momentum", "SGD's momentum", momentum),
    setting!("weight-decay", "L2 penalty", weight_decay),
    setting!("nesterov", "Nesterov's form of the momentum: true or false", nesterov),
    setting!("crop", "Padding of the random crop; 0 for none", crop),
    setting!("flip", "Mirror images: true or false", flip),
    setting!("first-share", "Share of the training images that the first round starts from", first_share),
    setting!("first-limit", "At most so many of them; 0 for all", first_limit),
    Setting {
        name: "shares",
        help: "Share of the ranking selected after each round, as in 0.7,0.7; so many rounds, and a last one",
        set: |config, text| parse_list(&mut config.shares, text, scalar),
    },
    Setting {
        name: "views",
        help: "Changes that an image of the first set has to keep its label in, as in flip,zoom,dark,grey,noise; none for none",
        set: |config, text| parse_list(&mut config.views, text, str::parse),
    },
    Setting {
        name: "filter",
        help: "Survivors filter on the first set, epsilon x steps, as in 16x5,2x3; none for no filter",
        set: |config, text| parse_list(&mut config.filter, text, filter_pass),
    },
    setting!(
        "filter-limit",
        "Leave out a view or an attack of the filter that would drop a larger share of the images",
        filter_limit
    ),
    setting!(
        "agree",
        "Keep only images whose label the model gives, the infected one in the first set, the purified one in a selection: true or false",
        agree
    ),
    setting!("clean-limit", "Step 2 before the last round: images at most; 0 for all", clean_limit),
    Setting {
        name: "lr",
        help: "Largest learning rate of every step",
        set: |config, text| {
            let rate = scalar(text)?;
            let steps = [
                &mut config.first_adversarial,
                &mut config.first_clean,
                &mut config.adversarial,
                &mut config.clean,
                &mut config.last,
            ];
            steps.into_iter().for_each(|step| step.learning_rate = rate);
            Ok(())
        },
    },
];

const ATTACK: [Setting; 8] = [
    setting!("epsilon-min", "Smallest radius of the attack, in 1/255", attack.epsilon_min),
    setting!("epsilon-max", "Largest radius; each image draws its own, log-uniform", attack.epsilon_max),
    setting!("alpha-ratio", "Step of the attack out of its radius", attack.alpha_ratio),
    setting!("steps", "Steps of the attack", attack.steps),
    setting!(
        "random-start",
        "The attack starts at a random point of its ball: true or false",
        attack.random_start
    ),
    setting!("clamp", "Examples stay within [0, 1]: true or false", attack.clamp),
    setting!("attack-limit", "Attack at most so many images a round; 0 for all", attack.limit),
    setting!(
        "every-batch",
        "New examples for every batch, instead of once a round: true or false",
        attack.every_batch
    ),
];

/// In the order in which they apply: `--lr` before the steps' own.
fn all() -> impl Iterator<Item = Setting> {
    GENERAL
        .into_iter()
        .chain(ATTACK)
        .chain(phase!("first-adversarial", "First round, step 1b", first_adversarial))
        .chain(phase!("first-clean", "First round, step 2", first_clean))
        .chain(phase!("adversarial", "Later rounds, step 1b", adversarial))
        .chain(phase!("clean", "Later rounds, step 2", clean))
        .chain(phase!("last", "Last round, step 2", last))
}

fn parse<T: FromStr>(slot: &mut T, text: &str) -> Parsed
where
    T::Err: ToString,
{
    *slot = scalar(text)?;
    Ok(())
}

fn scalar<T: FromStr>(text: &str) -> Parsed<T>
where
    T::Err: ToString,
{
    text.trim().parse().map_err(|cause: T::Err| cause.to_string())
}

/// Commas between; `none` is the empty list.
fn parse_list<T>(slot: &mut Vec<T>, text: &str, item: fn(&str) -> Parsed<T>) -> Parsed {
    *slot = if text == "none" { vec![] } else { text.split(',').map(item).collect::<Parsed<_>>()? };
    Ok(())
}

fn filter_pass(text: &str) -> Parsed<FilterPass> {
    let (epsilon, steps) = text.split_once('x').ok_or("it is of the form 16x5,2x3")?;
    Ok(FilterPass { epsilon: scalar(epsilon)?, steps: scalar(steps)? })
}

/// What was given on the command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// Overrides `config`.
    ///
    /// # Errors
    /// A value that can't be read, naming its option.
    pub fn apply(&self, config: &mut PurifyConfig) -> Result<()> {
        for setting in all() {
            if let Some((name, text)) = self.0.iter().find(|(name, _)| *name == setting.name) {
                (setting.set)(config, text)
                    .map_err(|cause| Error::input(format!("--{name} {text}: {cause}")))?;
            }
        }
        Ok(())
    }

    /// Whether `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| *given == name)
    }
}

impl clap::Args for Settings {
    fn augment_args(command: Command) -> Command {
        command.args(all().map(|setting| {
            Arg::new(setting.name)
                .long(setting.name)
                .help(setting.help)
                .value_name("VALUE")
                .help_heading("Settings (default: the recipe's, written to config.toml)")
                .allow_hyphen_values(true)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        let given = |setting: Setting| Some((setting.name, matches.get_one::<String>(setting.name)?.clone()));
        self.0 = all().filter_map(given).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbe::defense::config::Recipe;
    use pbe::defense::views::View;
    use pbe::train::Schedule;
    use serde_json::Value;

    fn config(settings: &[(&'static str, &str)]) -> Result<PurifyConfig> {
        let mut config = PurifyConfig::new(Recipe::Default, false);
        let given = settings.iter().map(|(name, text)| (*name, text.to_string())).collect();
        Settings(given).apply(&mut config)?;
        Ok(config)
    }

    /// Numbers, flags and texts in a configuration, lists as one.
    fn leaves(value: &Value) -> usize {
        match value {
            Value::Object(fields) => fields.values().map(leaves).sum(),
            _ => 1,
        }
    }

    /// Each setting changes the configuration, and there are as many as it has fields: the recipe
    /// has an option of its own, `lr` sets others' fields.
    #[test]
    fn every_field_has_an_option() {
        let plain = PurifyConfig::new(Recipe::Default, false);
        let fields = leaves(&serde_json::to_value(&plain).unwrap());
        assert_eq!(all().count() - 1, fields - 1);
        let mut seen = std::collections::BTreeSet::new();
        for setting in all() {
            let changed =
                ["77", "0.123", "false", "true", "cosine", "constant", "1x1", "grey"].iter().any(|text| {
                    let mut config = plain.clone();
                    (setting.set)(&mut config, text).is_ok() && config != plain && {
                        seen.insert(serde_json::to_string(&config).unwrap());
                        true
                    }
                });
            assert!(changed, "{}", setting.name);
        }
        assert_eq!(seen.len(), all().count(), "two options set the same field");
    }

    #[test]
    fn values_are_read() {
        let config = config(&[
            ("last-lr", "0.5"),
            ("lr", "0.25"),
            ("shares", "0.7, 0.8"),
            ("filter", "16x5,2x3"),
            ("views", "grey,flip"),
            ("nesterov", "false"),
            ("clean-schedule", "one-cycle"),
            ("epsilon-min", "-3"),
        ])
        .unwrap();
        assert_eq!((config.last.learning_rate, config.clean.learning_rate), (0.5, 0.25));
        assert_eq!(config.shares, [0.7, 0.8]);
        assert_eq!(config.filter[1], FilterPass { epsilon: 2.0, steps: 3 });
        assert_eq!(config.views, [View::Grey, View::Flip]);
        assert!(!config.nesterov && config.clean.schedule == Schedule::OneCycle);
        assert_eq!(config.attack.epsilon_min, -3.0);
    }

    #[test]
    fn values_that_mean_nothing_are_named() {
        for (name, text, cause) in [
            ("steps", "-1", "--steps -1: "),
            ("nesterov", "maybe", "--nesterov maybe: "),
            ("filter", "16", "16x5,2x3"),
            ("last-schedule", "step", "one of constant"),
        ] {
            let message = config(&[(name, text)]).unwrap_err().to_string();
            assert!(message.contains(cause), "{message}");
        }
        assert!(config(&[("filter", "none")]).unwrap().filter.is_empty());
    }
}
