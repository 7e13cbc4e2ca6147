//! Others' code that a file may lead into a panic or into deep recursion: either is an error here.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread;

use anyhow::{Context, Result, anyhow};

thread_local! {
    /// Whether a panic on this thread is somebody's to tell.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs what may panic, and says nothing of it but in the error.
///
/// # Errors
/// The panic's message, on one line.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.try_with(Cell::get).unwrap_or(false) {
                others(info);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    CAUGHT.set(outer);
    result.map_err(|panic| anyhow!("{}", message(&*panic)))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Address space alone, but for what is used.
const DEEP_STACK: usize = 256 << 20;

/// Runs what recurses as deeply as its input says, on a stack of its own.
///
/// # Errors
/// Where there is no thread to be had; as [`caught`].
pub fn on_deep_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(DEEP_STACK);
        let thread = builder.spawn_scoped(scope, || caught(run)).context("a thread cannot be started")?;
        thread.join().unwrap_or_else(|panic| Err(anyhow!("{}", message(&*panic))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        let error = caught::<()>(|| panic!("no\n  {}", "room")).unwrap_err();
        assert_eq!(error.to_string(), "no room");
        assert_eq!(on_deep_stack(|| 3).unwrap(), 3);
        assert_eq!(on_deep_stack::<()>(|| panic!("deep")).unwrap_err().to_string(), "deep");
    }
}
