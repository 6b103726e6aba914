//! Progress with an estimate of the time left, on stderr: a bar on a terminal, elsewhere plain lines
//! every few seconds.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between plain lines.
const PAUSE: Duration = Duration::from_secs(5);

/// Shows the progress of the current task; may be called from any thread.
pub struct Progress {
    terminal: bool,
    task: Mutex<Option<ProgressTask>>,
}

struct ProgressTask {
    label: String,
    total: usize,
    /// Units done at the start: a resumed task doesn't begin at 0.
    first: usize,
    started: Instant,
    /// When the last plain line was printed.
    printed: Instant,
    finished: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), task: Mutex::new(None) }
    }

    /// `done` of `total` units of `label` are finished. Another label or total is another task.
    pub fn show(&self, label: &str, done: usize, total: usize, note: Option<String>) {
        let Ok(mut slot) = self.task.lock() else {
            return;
        };
        if is_quiet() {
            return;
        }
        if slot.as_ref().is_none_or(|task| task.label != label || task.total != total) {
            if let Some(bar) = slot.as_ref().and_then(|task| task.bar.as_ref()) {
                bar.finish();
            }
            *slot = Some(ProgressTask::new(label, done, total, self.terminal));
        }
        if let Some(task) = slot.as_mut() {
            task.at(done, note);
        }
    }

    /// A line of its own, above the bar.
    pub fn log(&self, line: &str) {
        let slot = self.task.lock();
        match slot.as_ref().ok().and_then(|slot| slot.as_ref()).and_then(|task| task.bar.as_ref()) {
            Some(bar) => bar.suspend(|| log(line)),
            None => log(line),
        }
    }

    /// Ends the task that is shown, if any.
    pub fn clear(&self) {
        if let Ok(mut slot) = self.task.lock()
            && let Some(bar) = slot.take().and_then(|task| task.bar)
        {
            bar.finish();
        }
    }
}

/// `--quiet`.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on only warnings and errors go to stderr.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A line on stderr; dropped if stderr is closed.
pub fn log(line: &str) {
    if is_quiet() && !line.starts_with("warning: ") {
        return;
    }
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl ProgressTask {
    fn new(label: &str, done: usize, total: usize, terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:32} [{bar:30}] {percent:>3}%  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(label.to_string());
            bar
        });
        let now = Instant::now();
        Self { label: label.into(), total, first: done, started: now, printed: now, finished: false, bar }
    }

    fn at(&mut self, done: usize, note: Option<String>) {
        let finished = done >= self.total;
        let elapsed = self.started.elapsed();
        let time = match done - self.first.min(done) {
            _ if finished => format!("{} s", elapsed.as_secs()),
            0 => String::new(),
            new => {
                let left = elapsed.as_secs_f64() * (self.total - done) as f64 / new as f64;
                format!("{} left", clock(left))
            }
        };
        let note = note.map_or_else(String::new, |note| format!(", {note}"));
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(format!("{time}{note}"));
            return;
        }
        if self.printed.elapsed() < PAUSE && !(finished && !self.finished && elapsed > PAUSE / 5) {
            return;
        }
        (self.printed, self.finished) = (Instant::now(), finished);
        log(&format!("{}: {} %, {time}{note}", self.label, 100 * done / self.total.max(1)));
    }
}

/// Seconds as `1:02:03`, `2:03` or `3 s`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn times_are_short() {
        assert_eq!(clock(3.4), "3 s");
        assert_eq!(clock(63.0), "1:03");
        assert_eq!(clock(3723.0), "1:02:03");
    }
}
