//! Ctrl-C, SIGTERM and SIGHUP. In a run with checkpoints the first one ends the run after its batch, the second ends
//! the program. In other commands the first ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use pbe::error::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag::{register, register_conditional_shutdown};

static PRESSED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// Whether the next signal ends the program.
static LAST: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Exit code of a program that Ctrl-C ended, as shells count.
const EXIT_CODE: i32 = 130;

/// Takes over the signals.
pub fn watch() -> Result<()> {
    let fault = |cause| Error::run(format!("can't watch for signals: {cause}"));
    for signal in
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !survives_hangup())
    {
        // In this order: what the second one sets counts for the next signal.
        register_conditional_shutdown(signal, EXIT_CODE, Arc::clone(&LAST)).map_err(fault)?;
        register(signal, Arc::clone(&LAST)).map_err(fault)?;
        register(signal, Arc::clone(&PRESSED)).map_err(fault)?;
    }
    // With a handler, a file that grows past the limit is an error of the write and no longer ends the program.
    register(SIGXFSZ, Arc::default()).map_err(fault)?;
    Ok(())
}

/// Whether SIGHUP is ignored, as `nohup` wants it; Linux says so.
fn survives_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.unwrap_or(0) >> (SIGHUP - 1) & 1 == 1
}

/// From now on the run asks whether a signal came.
pub fn listen() {
    LAST.store(false, Ordering::SeqCst);
}

/// An error once a signal came.
pub fn check() -> Result<()> {
    let message = "the checkpoint is written; --resume with the folder of the run goes on from there";
    if PRESSED.load(Ordering::SeqCst) { Err(Error::Interrupted(message.into())) } else { Ok(()) }
}
