//! Progress on stderr: only on a terminal, and only for work of over a second.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar};

const PATIENCE: Duration = Duration::from_secs(1);

/// Says what is going on, from one second after the start until it is dropped.
#[derive(Debug)]
pub struct Spinner {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spinner {
    /// Starts work.
    pub fn new(message: &'static str) -> Self {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            if stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let bar = ProgressBar::new_spinner().with_message(message);
                bar.enable_steady_tick(Duration::from_millis(100));
                let _ = stopped.recv();
                bar.finish_and_clear();
            }
        });
        Spinner { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A spinner that failed has nothing to clear.
            let _ = thread.join();
        }
    }
}

/// A progress function for a writer of bytes.
pub fn writing() -> impl FnMut(u64) {
    let start = Instant::now();
    let mut bar: Option<Bar> = None;
    move |done| {
        if bar.is_none() && start.elapsed() < PATIENCE {
            return;
        }
        let bar = bar.get_or_insert_with(|| Bar(ProgressBar::new_spinner()));
        bar.0.set_message(format!("writing {}", HumanBytes(done)));
        bar.0.tick();
    }
}

struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
