use super::*;

/// A file that records every feeding, in place of a device.
struct Pretend {
    _dir: tempfile::TempDir,
    config: config::Watchdog,
}

fn at(ms: u64) -> Mono {
    Mono::from_micros(1_000_000_000 + ms * 1000)
}

impl Pretend {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let device = dir.path().join("watchdog");
        std::fs::write(&device, "").expect("a file");
        Self {
            _dir: dir,
            config: config::Watchdog {
                device,
                timeout: Span::from_secs(10),
            },
        }
    }

    fn fed(&self) -> String {
        std::fs::read_to_string(&self.config.device).expect("the file")
    }
}

#[test]
fn it_is_fed_ten_times_within_its_timeout_and_closed_by_magic() {
    let pretend = Pretend::new();
    let mut watchdog = Watchdog::new(at(0), &pretend.config);
    for ms in (0..10_000).step_by(50) {
        watchdog.tend(at(ms), None);
    }
    assert_eq!(pretend.fed(), "..........");
    assert_eq!(watchdog.deadline(), at(10_000));
    assert!(watchdog.describe().ends_with("watchdog fed, time-out 10s"));
    watchdog.close();
    assert_eq!(pretend.fed(), "..........V");
}

#[test]
fn what_overstays_starves_it_until_it_has_stopped() {
    let pretend = Pretend::new();
    let mut watchdog = Watchdog::new(at(0), &pretend.config);
    watchdog.tend(at(0), None);
    for ms in (1..9000).step_by(50) {
        watchdog.tend(at(ms), Some("sip/a still runs"));
    }
    assert_eq!(pretend.fed(), ".");
    assert!(watchdog.describe().starts_with("NOT FED"));
    assert!(watchdog.describe().ends_with("sip/a still runs"));
    watchdog.tend(at(9001), None);
    assert_eq!(pretend.fed(), "..");
}

#[test]
fn no_clean_end_saves_a_server_whose_services_overstay() {
    let pretend = Pretend::new();
    let mut watchdog = Watchdog::new(at(0), &pretend.config);
    watchdog.tend(at(0), Some("sip/a still runs"));
    watchdog.close();
    assert_eq!(pretend.fed(), "");
}

#[test]
fn a_device_that_cannot_be_opened_is_said_and_tried_again() {
    let mut pretend = Pretend::new();
    let device = pretend.config.device.clone();
    pretend.config.device = device.with_extension("gone");
    let mut watchdog = Watchdog::new(at(0), &pretend.config);
    watchdog.tend(at(0), None);
    assert!(watchdog.describe().starts_with("NOT WORKING: cannot open"));
    std::fs::rename(&device, &pretend.config.device).expect("renamed");
    watchdog.tend(at(4999), None);
    assert_eq!(pretend.fed(), "");
    watchdog.tend(at(5000), None);
    assert_eq!(pretend.fed(), ".");
}
