//! Settings of a defence from TOML: a file and `path=value` over the defaults.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Defense, Facts, RunState};
use crate::error::{Error, Result};

/// What the user sets, over the defaults.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// A settings file. Entry i of a list of tables goes over the default's entry i, or over its last one.
    pub file: Table,
    /// Path and value, over the file; `*` in a path is every entry of a list.
    pub set: Vec<(String, Value)>,
}

/// A defence with its settings.
pub struct Configured {
    /// It.
    pub defense: Box<dyn Defense>,
    /// All its settings that have an effect, as `config.toml` holds them.
    pub settings: Table,
    /// Settings that differ from the defaults, in words.
    pub differences: Vec<String>,
    /// The paths of what the user has set.
    set: Vec<String>,
}

impl Configured {
    /// What the user has set of the settings that had no effect in the run that ended with `state`, in words.
    pub fn idle(&self, state: &RunState) -> Vec<String> {
        let idle = self.defense.idle(state);
        let why = |path: &&String| idle.iter().find(|(idle, _)| is_below(path, idle));
        let found = self.set.iter().filter_map(|path| Some((path, why(&path)?.1)));
        found.map(|(path, why)| format!("{path} had no effect: {why}")).collect()
    }
}

/// A path in dots, and the value there.
type Leaf = (String, Value);

/// `D` with the defaults, and `overlay` over them.
pub(super) fn configure<D>(facts: &Facts, overlay: &Overlay) -> Result<Configured>
where
    D: Defense + Serialize + DeserializeOwned + 'static,
{
    let facts = Facts { rounds: round_count(overlay)?.or(facts.rounds), ..*facts };
    let defaults = to_value(&D::defaults(&facts)?)?;
    let mut settings = defaults.clone();
    let mut file = overlay.file.clone();
    file.retain(|key, value| !is_round_count(key, value));
    merge(&mut settings, &Value::Table(file), "")?;
    let mut set = vec![];
    for (path, value) in overlay.set.iter().filter(|(path, value)| !is_round_count(path, value)) {
        let names: Vec<&str> = path.split('.').collect();
        assign(&mut settings, &names, value, String::new(), &mut set)?;
    }
    let defense: D =
        settings.clone().try_into().map_err(|cause| misfit::<D>(&defaults, &settings, &cause))?;
    defense.check(&facts)?;
    facts.side.map_or(Ok(()), |side| defense.trainer().check_crop(side))?;
    let mut settings = to_value(&defense)?;
    let (before, after) = (leaves(&defaults), leaves(&settings));
    let changed: Vec<&Leaf> = after.iter().filter(|leaf| !before.contains(leaf)).collect();
    let unused = defense.unused(&facts);
    set.extend(changed.iter().map(|(path, _)| path.clone()));
    set.sort_unstable();
    set.dedup();
    for path in &set {
        if let Some((_, why)) = unused.iter().find(|(unused, _)| is_below(path, unused)) {
            return Err(Error::input(format!("{path} has no effect: {why}")));
        }
    }
    let differences = changed.iter().map(|(path, value)| {
        let default = before.iter().find(|(other, _)| other == path);
        let default = default.map_or_else(|| "not set".into(), |(_, value)| value.to_string());
        format!("{path} = {value} (default {default})")
    });
    let differences = differences.collect();
    unused.iter().for_each(|(path, _)| remove(&mut settings, path));
    let Value::Table(settings) = settings else {
        return Err(Error::run("settings are no table"));
    };
    Ok(Configured { defense: Box::new(defense), settings, differences, set })
}

/// Whether this says how many rounds there are, and not what they are.
fn is_round_count(path: &str, value: &Value) -> bool {
    path == "rounds" && value.is_integer()
}

/// How many rounds the user asks for: `rounds=3`, or as many as the file lists.
fn round_count(overlay: &Overlay) -> Result<Option<usize>> {
    let in_file = overlay.file.get("rounds").map(|value| ("rounds", value));
    let set = overlay.set.iter().rev().map(|(path, value)| (path.as_str(), value));
    let asked = set.chain(in_file).find(|(path, value)| is_round_count(path, value));
    let asked = asked.and_then(|(_, value)| value.as_integer());
    let listed = in_file.and_then(|(_, value)| value.as_array()).map(Vec::len);
    match (asked, listed) {
        (Some(asked), Some(listed)) if asked != listed as i64 => {
            Err(Error::input(format!("rounds is {asked}, but the settings file has {listed} rounds")))
        }
        (Some(asked), _) => usize::try_from(asked)
            .map(Some)
            .map_err(|_| Error::input(format!("rounds is {asked}, but must be at least 1"))),
        (None, listed) => Ok(listed),
    }
}

/// Names the setting that doesn't fit its type: it doesn't fit the defaults either.
fn misfit<D: DeserializeOwned>(defaults: &Value, settings: &Value, cause: &toml::de::Error) -> Error {
    let before = leaves(defaults);
    let alone = |(path, value): &Leaf| {
        let (mut one, names): (_, Vec<&str>) = (defaults.clone(), path.split('.').collect());
        assign(&mut one, &names, value, String::new(), &mut vec![]).ok()?;
        let cause = one.try_into::<D>().err()?;
        Some(Error::input(format!("{path}: {}", in_words(&cause))))
    };
    let found = leaves(settings).iter().filter(|leaf| !before.contains(leaf)).find_map(alone);
    found.unwrap_or_else(|| Error::input(format!("settings: {}", in_words(cause))))
}

/// What TOML's reader says, without the names of Rust's types.
pub fn in_words(cause: &toml::de::Error) -> String {
    let mut words = cause.message().split(' ').peekable();
    let (mut text, kind) = (vec![], |name: &str| match name {
        "usize" | "u64" | "u32" => Some("a whole number, 0 or more"),
        "f32" | "f64" => Some("a number"),
        "struct" => Some("a table"),
        "enum" => Some("a text"),
        _ => None,
    });
    while let Some(word) = words.next() {
        text.push(kind(word).unwrap_or(word));
        // The type's name.
        if ["struct", "enum"].contains(&word) {
            words.next();
        }
    }
    text.join(" ")
}

/// `path=value`, as on a command line. What isn't TOML is a text.
pub fn parse_assignment(text: &str) -> Result<(String, Value)> {
    let fault = || Error::input(format!("--set {text}: it is of the form path=value"));
    let (path, value) = text.split_once('=').ok_or_else(fault)?;
    let (path, value) = (path.trim(), value.trim());
    if path.is_empty() || value.is_empty() {
        return Err(fault());
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    Ok((path.to_string(), parsed.unwrap_or_else(|| Value::String(value.to_string()))))
}

fn to_value(settings: &impl Serialize) -> Result<Value> {
    let mut value =
        Value::try_from(settings).map_err(|cause| Error::run(format!("settings as TOML: {cause}")))?;
    shorten(&mut value);
    Ok(value)
}

/// Writes numbers that came from f32 with the digits of an f32: 0.9, not 0.8999999761581421.
fn shorten(value: &mut Value) {
    match value {
        Value::Float(number) if f64::from(*number as f32) == *number => {
            *number = (*number as f32).to_string().parse().unwrap_or(*number);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Table(table) => table.iter_mut().for_each(|(_, item)| shorten(item)),
        _ => {}
    }
}

/// Puts `given` over `settings`, which has every key that there is.
fn merge(settings: &mut Value, given: &Value, path: &str) -> Result<()> {
    match (settings, given) {
        (Value::Table(settings), Value::Table(given)) => {
            for (key, value) in given {
                let path = join(path, key);
                let known = known_keys(settings);
                let slot = settings.get_mut(key).ok_or_else(|| unknown(&path, &known))?;
                merge(slot, value, &path)?;
            }
        }
        (Value::Array(settings), Value::Array(given)) if is_tables(settings) && is_tables(given) => {
            let defaults = std::mem::take(settings);
            for (number, value) in given.iter().enumerate() {
                let mut entry = defaults[number.min(defaults.len() - 1)].clone();
                merge(&mut entry, value, &join(path, &number.to_string()))?;
                settings.push(entry);
            }
        }
        (settings, given) => replace(settings, given, path)?,
    }
    Ok(())
}

/// Puts `value` at the path `names` below `settings`, and notes the paths that this sets.
fn assign(
    settings: &mut Value,
    names: &[&str],
    value: &Value,
    path: String,
    set: &mut Vec<String>,
) -> Result<()> {
    let Some((name, rest)) = names.split_first() else {
        set.push(path.clone());
        return replace(settings, value, &path);
    };
    match settings {
        Value::Table(table) => {
            let (here, known) = (join(&path, name), known_keys(table));
            let slot = table.get_mut(*name).ok_or_else(|| unknown(&here, &known))?;
            assign(slot, rest, value, here, set)
        }
        Value::Array(items) if *name == "*" => {
            let mut numbered = items.iter_mut().enumerate();
            numbered.try_for_each(|(number, item)| {
                assign(item, rest, value, join(&path, &number.to_string()), set)
            })
        }
        Value::Array(items) => {
            let (here, count) = (join(&path, name), items.len());
            let slot = name.parse().ok().and_then(|number: usize| items.get_mut(number));
            let cause = || Error::input(format!("{here}: {path} has the entries 0 to {}", count.max(1) - 1));
            assign(slot.ok_or_else(cause)?, rest, value, here, set)
        }
        _ => Err(unknown(&join(&path, name), "no keys")),
    }
}

/// Replaces a value by one of its kind; a whole number is a float too.
fn replace(settings: &mut Value, given: &Value, path: &str) -> Result<()> {
    let given = match (&*settings, given) {
        (Value::Float(_), Value::Integer(number)) => Value::Float(*number as f64),
        _ => given.clone(),
    };
    if !settings.same_type(&given) {
        let (wanted, found) = (settings.type_str(), given.type_str());
        return Err(Error::input(format!(
            "{path} is {given}, of type {found}, but must be of type {wanted}"
        )));
    }
    *settings = given;
    Ok(())
}

fn is_tables(values: &[Value]) -> bool {
    !values.is_empty() && values.iter().all(Value::is_table)
}

fn known_keys(table: &Table) -> String {
    table.keys().cloned().collect::<Vec<_>>().join(", ")
}

fn unknown(path: &str, known: &str) -> Error {
    Error::input(format!("{path} is no setting of this run; there are {known}"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// Whether `path` is `above` or below it.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Every value that is neither a table nor a list of tables.
fn leaves(value: &Value) -> Vec<Leaf> {
    fn walk(value: &Value, path: String, found: &mut Vec<Leaf>) {
        match value {
            Value::Table(table) => table.iter().for_each(|(key, item)| walk(item, join(&path, key), found)),
            Value::Array(items) if is_tables(items) && path == "rounds" => {
                let numbered = items.iter().enumerate();
                numbered.for_each(|(number, item)| walk(item, join(&path, &number.to_string()), found));
            }
            value => found.push((path, value.clone())),
        }
    }
    let mut found = vec![];
    walk(value, String::new(), &mut found);
    found
}

fn remove(settings: &mut Value, path: &str) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    match (settings, rest) {
        (Value::Table(table), None) => drop(table.remove(name)),
        (Value::Table(table), Some(rest)) => {
            table.get_mut(name).into_iter().for_each(|item| remove(item, rest))
        }
        (Value::Array(items), Some(rest)) => {
            name.parse()
                .ok()
                .and_then(|number: usize| items.get_mut(number))
                .into_iter()
                .for_each(|item| remove(item, rest));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pbe;
    use super::*;

    fn with(file: &str, set: &[&str], clean_set: bool) -> Result<Configured> {
        let set = set.iter().map(|text| parse_assignment(text)).collect::<Result<_>>()?;
        configure::<Pbe>(&Facts::new(clean_set), &Overlay { file: file.parse().unwrap(), set })
    }

    #[track_caller]
    fn refusal(file: &str, set: &[&str], clean_set: bool) -> String {
        with(file, set, clean_set).err().unwrap().to_string()
    }

    fn pbe(configured: &Configured) -> Pbe {
        let mut value = to_value(&Pbe::defaults(&Facts::new(false)).unwrap()).unwrap();
        merge(&mut value, &Value::Table(configured.settings.clone()), "").unwrap();
        value.try_into().unwrap()
    }

    #[test]
    fn paths_set_values_and_wildcards_all_entries() {
        let configured = with(
            "",
            &[
                "rounds.0.clean.epochs=16",
                "rounds.*.attack.steps = 3",
                "rounds.1.clean.schedule=one-cycle",
                "initial_set.views=[\"grey\", \"flip\"]",
                "rounds.0.attack.epsilon_min=8",
                "nesterov=false",
            ],
            false,
        )
        .unwrap();
        let pbe = pbe(&configured);
        assert_eq!((pbe.rounds[0].clean.epochs, pbe.rounds[1].clean.epochs), (16, 6));
        assert!(pbe.rounds.iter().all(|round| round.attack.steps == 3));
        assert_eq!(pbe.rounds[0].attack.epsilon_min, 8.0);
        assert!(!pbe.trainer.nesterov && pbe.initial_set.views.len() == 2);
        assert!(configured.differences.contains(&"rounds.0.clean.epochs = 16 (default 10)".to_string()));
        assert_eq!(configured.differences.len(), 7, "{:?}", configured.differences);
    }

    #[test]
    fn a_number_of_rounds_is_how_many_of_the_recipe() {
        let count = |file: &str, set: &[&str]| pbe(&with(file, set, false).unwrap()).rounds.len();
        assert_eq!([count("", &[]), count("", &["rounds=4"]), count("rounds = 3", &[])], [2, 4, 3]);
        assert_eq!(count("rounds = 3", &["rounds=4", "rounds.3.clean.epochs=1"]), 4);
        assert_eq!(count("[[rounds]]\n[[rounds]]\n", &["rounds=2"]), 2);
        let two = refusal("[[rounds]]\n[[rounds]]\n", &["rounds=3"], false);
        assert_eq!(two, "rounds is 3, but the settings file has 2 rounds");
        assert_eq!(refusal("", &["rounds=-1"], false), "rounds is -1, but must be at least 1");
        assert!(refusal("", &["rounds=0"], false).starts_with("rounds is 0"));
        assert!(refusal("", &["rounds=2"], true).contains("one round"));
    }

    #[test]
    fn a_file_of_three_rounds_has_three_rounds() {
        let pbe = pbe(&with("[[rounds]]\n[[rounds]]\nclean.epochs = 7\n[[rounds]]\n", &[], false).unwrap());
        let epochs: Vec<usize> = pbe.rounds.iter().map(|round| round.clean.epochs).collect();
        assert_eq!(epochs, [10, 7, 6]);
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for (clean_set, set) in [(false, "batch=64"), (true, "rounds.0.clean.distill=0.0")] {
            let first = with("", &[set], clean_set).unwrap();
            let text = toml::to_string(&first.settings).unwrap();
            assert!(!text.contains("99999"), "{text}");
            let again = with(&text, &[], clean_set).unwrap();
            assert_eq!(again.settings, first.settings);
        }
    }

    #[test]
    fn unknown_and_idle_settings_are_refused_with_the_reason() {
        assert!(
            refusal("", &["batches=3"], false)
                .starts_with("batches is no setting of this run; there are recipe, batch")
        );
        assert!(
            refusal("[initial_set]\nfilter = 3", &[], false).starts_with("initial_set.filter is no setting")
        );
        assert!(refusal("", &["rounds.2.clean.epochs=3"], false).contains("rounds has the entries 0 to 1"));
        assert!(
            refusal("", &["initial_set.share=0.5"], true)
                .contains("with a clean set there is no initial set")
        );
        assert!(refusal("[initial_set]\nshare = 0.5", &[], true).contains("initial_set.share has no effect"));
        assert!(refusal("", &["rounds.0.select.share=0.7"], true).contains("no images are ranked"));
        let temperature = refusal("", &["rounds.0.adversarial.temperature=2.0"], false);
        assert_eq!(temperature, "rounds.0.adversarial.temperature has no effect: nothing is distilled");
        assert!(refusal("[[rounds]]\n[[rounds]]", &[], true).contains("one round"));
    }

    #[test]
    fn values_of_another_type_or_range_are_named() {
        let many = Facts { rounds: Some(1_000_000_000), ..Facts::new(false) };
        let message = configure::<Pbe>(&many, &Overlay::default()).err().unwrap().to_string();
        assert_eq!(message, "rounds is 1000000000, but must be at most 100");
        assert!(refusal("", &["nesterov=maybe"], false).contains("nesterov is \"maybe\", of type string"));
        let schedule = refusal("", &["rounds.0.clean.schedule=staircase"], false);
        assert!(schedule.starts_with("rounds.0.clean.schedule: unknown variant `staircase`"), "{schedule}");
        let steps = refusal("", &["rounds.1.attack.steps=-1"], false);
        assert!(steps.starts_with("rounds.1.attack.steps: invalid value: integer `-1`"), "{steps}");
        let file = refusal("[[rounds]]\n[[rounds]]\nclean.epochs = -2", &[], false);
        assert!(file.starts_with("rounds.1.clean.epochs: invalid value"), "{file}");
        assert!(refusal("", &["batch=-1"], false).starts_with("batch: invalid value: integer `-1`"));
        assert!(refusal("", &["rounds.0.attack.epsilon_min=-1"], false).contains("epsilon_min is -1"));
        assert!(refusal("", &["batch"], false).contains("path=value"));
    }
}
