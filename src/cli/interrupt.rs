//! Ctrl-C. In a run with checkpoints the first one ends the run after its batch, the second ends the program. In
//! other commands the first ends the program.

use std::sync::atomic::{AtomicBool, Ordering};

use pbe::error::{Error, Result};

static PRESSED: AtomicBool = AtomicBool::new(false);
static HEARD: AtomicBool = AtomicBool::new(false);

/// Exit code of a program that Ctrl-C ended, as shells count.
const EXIT_CODE: i32 = 130;

/// Takes over Ctrl-C.
pub fn watch() -> Result<()> {
    let handler = || {
        if PRESSED.swap(true, Ordering::SeqCst) || !HEARD.load(Ordering::SeqCst) {
            std::process::exit(EXIT_CODE);
        }
    };
    ctrlc::set_handler(handler).map_err(|cause| Error::run(format!("can't watch for Ctrl-C: {cause}")))
}

/// From now on the run asks whether Ctrl-C was pressed.
pub fn listen() {
    HEARD.store(true, Ordering::SeqCst);
}

/// An error once Ctrl-C was pressed.
pub fn check() -> Result<()> {
    let message = "the checkpoint is written; the same command with --resume goes on from there";
    if PRESSED.load(Ordering::SeqCst) { Err(Error::Interrupted(message.into())) } else { Ok(()) }
}
