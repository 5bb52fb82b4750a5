//! Measures the replication between two syncers in one process over loopback: the latency of a
//! small change, a drain, logs that grow, a renamed and a deleted directory, the first transfer of
//! many small files, a large file.
//!
//! `cargo run --release -p haarb-syncer --example measure [DIR [CASE...]]`; the directories are made
//! below DIR (default: the temporary directory) and removed again. Bytes sent are those of the
//! loopback interface, so run it where nobody else uses that (`unshare -n`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use haarb_model::{
    Data, DirectoryState, Epoch, NodeName, ReserveDuties, ReserveName, Role, ServiceDuty, SyncDuty,
    VipDuty,
};
use haarb_syncer::{ChannelKey, Replicated, Settings, Syncer};

const PORT: u16 = 17951;

struct Server {
    syncer: Syncer,
    dir: PathBuf,
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

fn reserve() -> ReserveName {
    ReserveName::new("measure").expect("a name")
}

fn start(me: &str, home: &Path) -> Server {
    let dir = home.join(me);
    std::fs::create_dir_all(&dir).expect("a directory");
    let address = |text: &str| vec![format!("{text}:{PORT}").parse().expect("an address")];
    let directory = Replicated {
        name: b"/srv/data".to_vec(),
        at: dir.clone(),
        exclude: Default::default(),
        scrub_rate: Default::default(),
        deletion_limit: haarb_config::DeletionLimit::None,
    };
    let settings = Settings {
        cluster: "measure".into(),
        me: name(me),
        key: ChannelKey::new([7; 32]),
        networks: vec![haarb_model::NetworkName::new("red").expect("a name")],
        addresses: [
            (name("alpha"), address("127.100.0.1")),
            (name("beta"), address("127.100.0.2")),
        ]
        .into(),
        reserves: vec![(reserve(), vec![directory])],
        state_dir: home.join(format!("{me}-state")),
        look_around: Duration::from_secs(600),
        patience: Duration::from_secs(1),
    };
    let syncer = Syncer::start(settings).expect("a syncer");
    Server { syncer, dir }
}

impl Server {
    fn hold(&self, sync: SyncDuty, epoch: u64) {
        self.syncer.hold(&[ReserveDuties {
            reserve: reserve(),
            role: Role::Standby,
            epoch: Epoch(epoch),
            vip: VipDuty::default(),
            services: ServiceDuty::default(),
            sync,
        }]);
    }

    fn state(&self) -> haarb_model::SyncReserve {
        self.syncer.reports().borrow().reserves[0].clone()
    }
}

fn wait(so: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !so() {
        std::thread::sleep(Duration::from_micros(50));
    }
    start.elapsed()
}

fn in_sync(alpha: &Server, beta: &Server) -> bool {
    let (source, sink) = (alpha.state(), beta.state());
    source.directories[0].state == DirectoryState::InSync && sink.data == Data::Current
}

/// Processor time of this process so far: both servers, user and system (proc_pid_stat(5),
/// fields 14 and 15, in hundredths of a second on Linux).
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn percentiles(mut samples: Vec<Duration>) -> String {
    samples.sort();
    let at = |part: f64| samples[((samples.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

fn latency(alpha: &Server, beta: &Server) {
    let mut samples = Vec::new();
    for number in 0..1000u32 {
        let content = number.to_le_bytes().repeat(256);
        std::fs::write(alpha.dir.join("status"), &content).expect("written");
        let there = beta.dir.join("status");
        samples.push(wait(|| {
            std::fs::read(&there).is_ok_and(|found| found == content)
        }));
        std::thread::sleep(Duration::from_millis(u64::from(number % 7)));
    }
    println!(
        "1 KiB file changes, visible on the other side: {}",
        percentiles(samples)
    );
}

fn stale(alpha: &Server, beta: &Server) {
    for round in 0..200u32 {
        for file in 0..20u32 {
            let content = format!("{file:08}{round:08}");
            std::fs::write(alpha.dir.join(format!("status{file}")), content).expect("written");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_secs(1));
    let differ = (0..20).filter(|file| {
        let read = |server: &Server| std::fs::read(server.dir.join(format!("status{file}"))).ok();
        read(alpha) != read(beta)
    });
    println!(
        "20 status files rewritten 200 times, stale afterwards: {}",
        differ.count()
    );
}

fn drain(alpha: &Server, beta: &Server) {
    let mut samples = Vec::new();
    for epoch in 0..50 {
        alpha.hold(SyncDuty::Source, 100 + epoch);
        beta.hold(SyncDuty::Sink(name("alpha")), 100 + epoch);
        wait(|| in_sync(alpha, beta) && alpha.state().epoch.0 == 100 + epoch);
        std::fs::write(alpha.dir.join("last"), epoch.to_string()).expect("written");
        alpha.hold(SyncDuty::Drain, 100 + epoch);
        samples.push(wait(|| alpha.state().drained));
    }
    println!(
        "drain right after a change, while in sync: {}",
        percentiles(samples)
    );
}

fn many(alpha: &Server, beta: &Server, count: usize) {
    for number in 0..count {
        let dir = alpha.dir.join(format!("many{}", number / 1000));
        std::fs::create_dir_all(&dir).expect("a directory");
        let size = 1024 + number * 7919 % 7168;
        std::fs::write(dir.join(format!("f{number}")), vec![number as u8; size]).expect("written");
    }
    alpha.hold(SyncDuty::Source, 1);
    let (begin, used) = (Instant::now(), processor());
    beta.hold(SyncDuty::Sink(name("alpha")), 1);
    wait(|| in_sync(alpha, beta));
    println!(
        "first transfer of {count} files of 1 to 8 KiB: {:.2} s, processor {:.2} s",
        begin.elapsed().as_secs_f64(),
        processor() - used
    );
}

/// Bytes that the loopback interface of this namespace carried so far, headers included.
fn carried() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Many logs that stay open grow by a line every 10 ms.
fn logs(alpha: &Server, beta: &Server) {
    const LOGS: usize = 50;
    const LINES: usize = 1000;
    let name = |log: usize| format!("log{log:02}");
    let mut files: Vec<_> = (0..LOGS)
        .map(|log| std::fs::File::create(alpha.dir.join(name(log))).expect("a log"))
        .collect();
    wait(|| in_sync(alpha, beta) && beta.dir.join(name(LOGS - 1)).exists());
    let (before, used) = (carried(), processor());
    let written = std::sync::Mutex::new(Vec::new());
    let mut ages = Vec::new();
    std::thread::scope(|scope| {
        let written = &written;
        scope.spawn(move || {
            let begin = Instant::now();
            for line in 0..LINES {
                let due = begin + Duration::from_millis(10) * line as u32;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                written.lock().expect("a lock").push(Instant::now());
                for file in &mut files {
                    std::io::Write::write_all(file, &[b'x'; 100]).expect("written");
                }
            }
        });
        let mut seen = [0; LOGS];
        while seen.iter().any(|lines| *lines < LINES) {
            for (log, lines) in seen.iter_mut().enumerate() {
                let size = std::fs::metadata(beta.dir.join(name(log))).map_or(0, |m| m.len());
                let written = written.lock().expect("a lock");
                while *lines < (size as usize / 100).min(written.len()) {
                    ages.push(written[*lines].elapsed());
                    *lines += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let payload = (LOGS * LINES * 100) as f64;
    let sent = (carried() - before) as f64 / payload;
    println!(
        "{LOGS} logs of 100 lines a second, age of a line: {}; {sent:.2} bytes sent per byte, processor {:.2} s",
        percentiles(ages),
        processor() - used
    );
}

/// A directory of 10,000 files is renamed, then deleted.
fn renamed(alpha: &Server, beta: &Server) {
    let (old, new) = ("old", "new");
    std::fs::create_dir_all(alpha.dir.join(old)).expect("a directory");
    for number in 0..10_000_usize {
        let at = alpha.dir.join(old).join(format!("f{number}"));
        std::fs::write(at, format!("{number}").repeat(1000)).expect("written");
    }
    wait(|| in_sync(alpha, beta) && beta.dir.join("old/f9999").exists());
    for round in 0..5 {
        let (old, new) = if round % 2 == 0 {
            (old, new)
        } else {
            (new, old)
        };
        let before = carried();
        std::fs::rename(alpha.dir.join(old), alpha.dir.join(new)).expect("renamed");
        let took = wait(|| !beta.dir.join(old).exists() && beta.dir.join(new).exists());
        let whole = wait(|| in_sync(alpha, beta));
        println!(
            "rename of a directory of 10,000 files: {:.3} s, in sync {:.3} s later, {} KB sent",
            took.as_secs_f64(),
            whole.as_secs_f64(),
            (carried() - before) / 1000
        );
    }
    let begin = Instant::now();
    std::fs::remove_dir_all(alpha.dir.join(new)).expect("removed");
    let removed = begin.elapsed();
    wait(|| !beta.dir.join(new).exists());
    println!(
        "delete of it: {:.3} s, of which {:.3} s on the source",
        begin.elapsed().as_secs_f64(),
        removed.as_secs_f64()
    );
    wait(|| in_sync(alpha, beta));
}

fn large(alpha: &Server, beta: &Server, size: usize) {
    let mut content = vec![0u8; size];
    let mut seed = 1u64;
    for chunk in content.chunks_mut(8) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let bytes = (seed ^ (seed >> 33)).to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    let (new, path) = (alpha.dir.join("new"), alpha.dir.join("large"));
    std::fs::write(alpha.dir.join(".haarb/large"), &content).expect("written");
    std::fs::rename(alpha.dir.join(".haarb/large"), &path).expect("renamed");
    let there = beta.dir.join("large");
    let used = processor();
    let took = wait(|| there.exists());
    println!(
        "{} MiB file: {:.2} s, {:.0} MB/s, processor {:.2} s",
        size >> 20,
        took.as_secs_f64(),
        size as f64 / 1e6 / took.as_secs_f64(),
        processor() - used
    );
    wait(|| in_sync(alpha, beta));
    // One per cent of it in place, in 4 KiB pieces all over it.
    for piece in (0..size / 4096).step_by(100) {
        content[piece * 4096..piece * 4096 + 4096].fill(piece as u8);
    }
    std::fs::write(alpha.dir.join(".haarb/large"), &content).expect("written");
    std::fs::rename(alpha.dir.join(".haarb/large"), &path).expect("renamed");
    let (begin, used) = (Instant::now(), processor());
    wait(|| same_end(&path, &there) && in_sync(alpha, beta));
    println!(
        "1 % of it changed: {:.2} s, processor {:.2} s",
        begin.elapsed().as_secs_f64(),
        processor() - used
    );
    let _ = std::fs::remove_file(new);
}

/// Whether both are the same version, by what the replica keeps of it.
fn same_end(one: &Path, other: &Path) -> bool {
    let stamp = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    stamp(one) == stamp(other)
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let base = arguments.next().map(PathBuf::from);
    let base = base.unwrap_or_else(std::env::temp_dir);
    let wanted: Vec<String> = arguments.filter_map(|a| a.into_string().ok()).collect();
    let wants = |case: &str| wanted.is_empty() || wanted.iter().any(|w| w == case);
    let home = base.join(format!("haarb-measure-{}", std::process::id()));
    let (alpha, beta) = (start("alpha", &home), start("beta", &home));
    many(&alpha, &beta, if wants("many") { 10_000 } else { 10 });
    type Measure = fn(&Server, &Server);
    let cases: [(&str, Measure); 6] = [
        ("latency", latency),
        ("stale", stale),
        ("logs", logs),
        ("rename", renamed),
        ("large", |alpha, beta| large(alpha, beta, 1 << 30)),
        ("drain", drain),
    ];
    for (_, measure) in cases.iter().filter(|(case, _)| wants(case)) {
        measure(&alpha, &beta);
    }
    drop((alpha, beta));
    let _ = std::fs::remove_dir_all(home);
}
