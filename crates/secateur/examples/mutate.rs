//! Mutates models a million times and watches what becomes of each: no panic, no second of work, no
//! more memory than four times the file and 64 MiB.
//!
//! ```sh
//! cargo run --release --example mutate                  # a million
//! cargo run --release --example mutate -- 1000 5000000  # a thousand, from that seed on
//! cargo run --release --example mutate -- 1000 0 programs    # of PyTorch's programs only
//! cargo run --release --example mutate -- target/mutants/5000007.onnx
//! ```
//!
//! Work happens in a child process, so that a stack overflow or an endless loop is a finding too.
//! Findings are kept in `target/mutants`.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../tests/mutate/mod.rs"]
mod mutate;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use mutate::allocator::{Counting, SEED, limit, peak};
use mutate::bases::Bases;
use mutate::random::Random;
use mutate::run::{Folder, Stage};
use mutate::{Mutant, mutant};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The longest that one mutant may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// When a child is given up.
const GIVE_UP: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, first, end, of] = args.as_slice()
        && flag == "--child"
    {
        work(number(first), number(end), of);
        return ExitCode::SUCCESS;
    }
    if let [path] = args.as_slice()
        && Path::new(path).is_file()
    {
        return replay(path);
    }
    let count = args.first().map_or(1_000_000, |text| number(text));
    let first = args.get(1).map_or(0, |text| number(text));
    let of = args.get(2).map_or("all", String::as_str);
    let findings = watch(first, first + count, of);
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks at a finding again, in many of the ways in which a model is pruned.
fn replay(path: &str) -> ExitCode {
    let mutant = Mutant { bytes: fs::read(path).unwrap(), origin: path.to_string() };
    let folder = Folder::new();
    for seed in 0..64 {
        let start = Instant::now();
        let end = examine(&folder, &mutant, &Random::new(seed));
        println!("{end:?} after {} ms", start.elapsed().as_millis());
        if end.is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

/// Programs, all fixtures, and the models of this repository without most of their weights.
fn bases(folder: &Folder, of: &str) -> Bases {
    if of == "programs" {
        return Bases::programs();
    }
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let cut = ["fashion-cnn", "fashion-vit"].map(|name| {
        let out = folder.path(&format!("{name}.onnx"));
        mutate::run::cut_down(&models.join(format!("{name}.onnx")), &out);
        out
    });
    Bases::all().with(&cut).and(Bases::programs())
}

/// Runs mutants, and tells of each before (`> SEED`) and after (`= STAGE` or `! FINDING`).
fn work(first: u64, end: u64, of: &str) {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let folder = Folder::new();
    let bases = bases(&folder, of);
    let mut out = std::io::stdout().lock();
    for seed in first..end {
        writeln!(out, "> {seed}").unwrap();
        out.flush().unwrap();
        SEED.store(seed, Ordering::Relaxed);
        let mut random = Random::new(seed);
        let mutant = mutant(&bases, &mut random);
        match examine(&folder, &mutant, &random) {
            Ok(stage) => writeln!(out, "= {stage:?}").unwrap(),
            Err(finding) => writeln!(out, "! {finding} ({})", mutant.origin).unwrap(),
        }
    }
}

fn examine(folder: &Folder, mutant: &Mutant, random: &Random) -> Result<Stage, String> {
    let mut end = Ok(Stage::Refused);
    let mut time = Duration::ZERO;
    let taken = peak(|| time = clock(|| end = folder.run(&mutant.bytes, &mut random.clone())));
    let (stage, limit) = (end?, limit(mutant.bytes.len()));
    if taken > limit {
        return Err(format!("{taken} bytes, of at most {limit}"));
    }
    if time > PATIENCE {
        return Err(format!("{} ms", time.as_millis()));
    }
    Ok(stage)
}

/// How long work takes. Where the system tells what the process worked itself, that is the most: a
/// busy machine is no fault of the mutant's.
fn clock(work: impl FnOnce()) -> Duration {
    let (start, busy) = (Instant::now(), busy());
    work();
    let wall = start.elapsed();
    match (busy, self::busy()) {
        (Some(before), Some(after)) if wall > PATIENCE => wall.min(after - before),
        _ => wall,
    }
}

/// The processor time of this process so far, in steps of a hundredth of a second.
fn busy() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Starts children until all seeds are done; returns the number of findings.
fn watch(first: u64, end: u64, of: &str) -> usize {
    let mut tally = Tally::new(first, end, of);
    let mut next = first;
    while next < end {
        let (mut child, lines) = start(next, end, of);
        let outcome = follow(&lines, &mut tally);
        if let Err(how) = outcome {
            tally.find(how);
        }
        // It has ended, or is stuck.
        drop(child.kill());
        child.wait().unwrap();
        next = tally.seed + 1;
    }
    tally.show();
    tally.findings
}

fn start(first: u64, end: u64, of: &str) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--child", &first.to_string(), &end.to_string(), of])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, receive) = channel();
    let reader = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    (child, receive)
}

/// Takes what a child says; an error where it stops in the middle.
fn follow(lines: &Receiver<String>, tally: &mut Tally) -> Result<(), &'static str> {
    loop {
        match lines.recv_timeout(GIVE_UP) {
            Ok(line) => tally.take(&line),
            Err(RecvTimeoutError::Timeout) => return Err("it does not end"),
            Err(RecvTimeoutError::Disconnected) if tally.open => return Err("the process died"),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// What has come of the mutants so far.
struct Tally {
    first: u64,
    end: u64,
    /// The one at work, or the last one.
    seed: u64,
    /// Whether it is at work.
    open: bool,
    stages: BTreeMap<String, u64>,
    findings: usize,
    start: Instant,
    shown: Instant,
    bases: Bases,
}

impl Tally {
    fn new(first: u64, end: u64, of: &str) -> Self {
        let now = Instant::now();
        Tally {
            first,
            end,
            seed: first,
            open: false,
            stages: BTreeMap::new(),
            findings: 0,
            start: now,
            shown: now,
            bases: bases(&Folder::new(), of),
        }
    }

    fn take(&mut self, line: &str) {
        match line.split_at(2) {
            ("> ", seed) => (self.seed, self.open) = (number(seed), true),
            ("! ", finding) => self.find(finding),
            (_, stage) => {
                *self.stages.entry(stage.to_string()).or_default() += 1;
                self.open = false;
            }
        }
        if self.shown.elapsed() > Duration::from_secs(10) {
            self.shown = Instant::now();
            self.show();
        }
    }

    /// Shows and keeps a mutant.
    fn find(&mut self, what: &str) {
        self.findings += 1;
        self.open = false;
        let folder = PathBuf::from("target/mutants");
        fs::create_dir_all(&folder).unwrap();
        let mutant = mutant(&self.bases, &mut Random::new(self.seed));
        let kind = if mutant.bytes.starts_with(b"PK") { "pt2" } else { "onnx" };
        let path = folder.join(format!("{}.{kind}", self.seed));
        fs::write(&path, mutant.bytes).unwrap();
        println!("seed {}: {what}: {}", self.seed, path.display());
    }

    fn show(&self) {
        let done = self.seed - self.first + 1;
        let rate = done as f64 / self.start.elapsed().as_secs_f64();
        let left = (self.end - self.seed - 1) as f64 / rate;
        let stages: Vec<String> =
            self.stages.iter().map(|(stage, count)| format!("{count} {stage}")).collect();
        println!(
            "{done} of {}: {}; {} findings; {rate:.0} per second, {left:.0} s to go",
            self.end - self.first,
            stages.join(", "),
            self.findings,
        );
    }
}
