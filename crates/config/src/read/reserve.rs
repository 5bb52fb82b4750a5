//! Reserves: virtual IPs, directories, services.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use haarb_model::{Prefer, ReserveName, Span, VipSpec};

use crate::check::Positions;
use crate::fields::{self, Fields, Problems, cut, repeated};
use crate::tree::{Kind, Tree};
use crate::{DeletionLimit, Directory, Excludes, Reserve, ScrubRate, Service, ServiceKind};

const RESERVE: [&str; 7] = [
    "name",
    "prefer",
    "strict",
    "resume-on-one",
    "vips",
    "directories",
    "services",
];
const SERVICE: [&str; 13] = [
    "name",
    "exec",
    "script",
    "systemd",
    "init",
    "ocf",
    "parameters",
    "start-timeout",
    "stop-timeout",
    "check-interval",
    "check-timeout",
    "restarts",
    "restart-window",
];
const KINDS: [&str; 5] = ["exec", "script", "systemd", "init", "ocf"];

pub(super) fn reserves(top: &Fields<'_>, p: &mut Problems, at: &mut Positions) -> Vec<Reserve> {
    let Some(tree) = top.need("reserves", "a list of reserves", p) else {
        return Vec::new();
    };
    let mut reserves = Vec::<Reserve>::new();
    for item in fields::list(tree, "reserves", p) {
        let Some(f) = Fields::new(item, "a reserve", &RESERVE, p) else {
            continue;
        };
        let name = f.need("name", "sip", p).and_then(|t| {
            let name = fields::name::<ReserveName>(t, "the reserve's name", p)?;
            if reserves.iter().any(|r| r.name == name) {
                p.add(
                    t.pos,
                    format!("a second reserve is named {:?}", name.as_str()),
                    "give every reserve its own name",
                );
            }
            Some(name)
        });
        // Read on under a stand-in, so that a bad name does not hide what else is wrong.
        let Some(name) = name.or_else(|| ReserveName::new("unnamed").ok()) else {
            continue;
        };
        let reserve = Reserve {
            prefer: prefer(&f, p),
            strict: choice(&f, "strict", ["no", "yes"], p),
            resume_on_one: choice(&f, "resume-on-one", ["wait", "agree"], p),
            vips: vips(&f, p, at),
            directories: directories(&f, p, at),
            services: services(&f, p),
            name,
        };
        reserves.push(reserve);
    }
    reserves
}

fn prefer(reserve: &Fields<'_>, p: &mut Problems) -> Prefer {
    let read = reserve.get("prefer").and_then(|t| {
        let todo = "write availability or consistency";
        fields::parsed(t, "prefer", todo, p, |t| match t {
            "availability" => Ok(Prefer::Availability),
            "consistency" => Ok(Prefer::Consistency),
            _ => Err("is unknown"),
        })
    });
    read.unwrap_or_default()
}

/// One of two words, the default first; true for the second.
fn choice(reserve: &Fields<'_>, key: &str, words: [&str; 2], p: &mut Problems) -> bool {
    let read = reserve.get(key).and_then(|t| {
        let todo = format!("write {} or {}", words[0], words[1]);
        fields::parsed(t, key, &todo, p, |t| {
            let word = words.iter().position(|word| *word == t);
            word.map(|i| i == 1).ok_or("is unknown")
        })
    });
    read.unwrap_or_default()
}

fn vips(reserve: &Fields<'_>, p: &mut Problems, at: &mut Positions) -> Vec<VipSpec> {
    let Some(tree) = reserve.need("vips", "[{ address: 10.77.1.100/24, interface: eth0 }]", p)
    else {
        return Vec::new();
    };
    let mut vips = Vec::new();
    for item in fields::list(tree, "vips", p) {
        let Some(f) = Fields::new(item, "a virtual IP", &["address", "interface"], p) else {
            continue;
        };
        let address = f.need("address", "10.77.1.100/24", p).and_then(|t| {
            let todo = "write ADDRESS/PREFIX of one host, such as 10.77.1.100/24";
            let read = fields::parsed(t, "address", todo, p, prefixed)?;
            Some((read, t.pos))
        });
        let interface = f
            .need("interface", "eth0", p)
            .and_then(|t| Some((fields::interface(t, "interface", p)?, t.pos)));
        if let (Some(((address, prefix), pos)), Some((interface, interface_pos))) =
            (address, interface)
        {
            at.vips.push(pos);
            at.vip_interfaces.push(interface_pos);
            vips.push(VipSpec {
                address,
                prefix,
                interface,
            });
        }
    }
    vips
}

/// `ADDRESS/PREFIX` where the address is one of a host in that prefix.
fn prefixed(text: &str) -> Result<(IpAddr, u8), &'static str> {
    let (address, prefix) = text.split_once('/').ok_or("has no prefix length")?;
    let address: IpAddr = address.parse().map_err(|_| "is not an IP address")?;
    fields::host(address)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix = prefix
        .parse::<u8>()
        .ok()
        .filter(|n| digits && (1..=bits).contains(n))
        .ok_or("has a prefix length out of range")?;
    if let IpAddr::V4(v4) = address
        && prefix < 31
    {
        let host = v4.to_bits() & (u32::MAX >> prefix);
        if host == 0 {
            return Err("is the address of the network itself");
        }
        if host == u32::MAX >> prefix {
            return Err("is the broadcast address of its network");
        }
    }
    Ok((address, prefix))
}

fn directories(reserve: &Fields<'_>, p: &mut Problems, at: &mut Positions) -> Vec<Directory> {
    let mut directories = Vec::new();
    let Some(tree) = reserve.get("directories") else {
        return directories;
    };
    for item in fields::list(tree, "directories", p) {
        let Some(f) = Fields::new(
            item,
            "a directory",
            &["path", "exclude", "deletion-limit", "scrub-rate"],
            p,
        ) else {
            continue;
        };
        let Some(tree) = f.need("path", "/srv/sip", p) else {
            continue;
        };
        let path = fields::parsed(
            tree,
            "path",
            "write an absolute path without . and .., not / and not under /proc, /sys or /dev",
            p,
            |t| {
                let path = absolute(t)?;
                let system = ["/proc", "/sys", "/dev"];
                if path == Path::new("/") || system.iter().any(|s| path.starts_with(s)) {
                    return Err("cannot be replicated");
                }
                Ok(path)
            },
        );
        let exclude = excludes(&f, p);
        let deletion_limit = f.get("deletion-limit").and_then(|tree| {
            fields::parsed(
                tree,
                "deletion-limit",
                "write a part such as 50%, a number of files such as 200, or none",
                p,
                str::parse::<DeletionLimit>,
            )
        });
        let scrub_rate = f.get("scrub-rate").and_then(|tree| {
            fields::parsed(
                tree,
                "scrub-rate",
                "write a rate such as 4MB/s, or none",
                p,
                str::parse::<ScrubRate>,
            )
        });
        if let Some(path) = path {
            at.directories.push(tree.pos);
            directories.push(Directory {
                path,
                exclude,
                deletion_limit: deletion_limit.unwrap_or_default(),
                scrub_rate: scrub_rate.unwrap_or_default(),
            });
        }
    }
    directories
}

/// What is left out of a directory; every pattern that is none is reported.
fn excludes(directory: &Fields<'_>, p: &mut Problems) -> Excludes {
    let Some(tree) = directory.get("exclude") else {
        return Excludes::default();
    };
    let todo = "write a pattern as in a .gitignore file, such as \"*.tmp\" or \"/cache/\"";
    let patterns: Vec<String> = fields::list(tree, "exclude", p)
        .iter()
        .filter_map(|item| {
            fields::parsed(item, "the pattern", todo, p, |text| {
                let pattern = text.to_owned();
                match Excludes::new(std::slice::from_ref(&pattern)) {
                    Ok(_) => Ok(pattern),
                    Err((_, why)) => Err(why),
                }
            })
        })
        .collect();
    match Excludes::new(&patterns) {
        Ok(excludes) => excludes,
        Err((number, why)) => {
            p.add(
                tree.pos,
                format!("exclude: {} {why}", patterns[number]),
                todo,
            );
            Excludes::default()
        }
    }
}

/// An absolute path, rid of repeated and trailing slashes.
pub(super) fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err("is not an absolute path");
    }
    // `components` drops single dots, so they are looked for in the text.
    let dots = text.split('/').any(|part| part == "." || part == "..");
    if dots || path.components().any(|c| c == Component::ParentDir) {
        return Err("is not a plain path");
    }
    Ok(path.components().collect())
}

fn services(reserve: &Fields<'_>, p: &mut Problems) -> Vec<Service> {
    let mut services = Vec::<Service>::new();
    let Some(tree) = reserve.get("services") else {
        return services;
    };
    for item in fields::list(tree, "services", p) {
        let Some(f) = Fields::new(item, "a service", &SERVICE, p) else {
            continue;
        };
        let name = f.need("name", "relay", p).and_then(|t| {
            let name = fields::name::<ReserveName>(t, "the service's name", p)?;
            if services.iter().any(|s| s.name == name.as_str()) {
                p.add(
                    t.pos,
                    format!(
                        "a second service of this reserve is named {:?}",
                        name.as_str()
                    ),
                    "give every service its own name",
                );
            }
            Some(name)
        });
        let kind = kind(&f, p);
        let mut span = |key: &str, default: u64| {
            f.get(key)
                .and_then(|t| fields::span(t, key, p))
                .unwrap_or(Span::from_secs(default))
        };
        let (start_timeout, stop_timeout) = (span("start-timeout", 30), span("stop-timeout", 10));
        let (check_interval, check_timeout) = (span("check-interval", 1), span("check-timeout", 5));
        let restart_window = span("restart-window", 60);
        let restarts = f
            .get("restarts")
            .and_then(|t| fields::count(t, "restarts", 0, p))
            .unwrap_or(3);
        if let (Some(name), Some(kind)) = (name, kind) {
            services.push(Service {
                name: name.as_str().to_owned(),
                kind,
                start_timeout,
                stop_timeout,
                check_interval,
                check_timeout,
                restarts,
                restart_window,
            });
        }
    }
    services
}

fn kind(service: &Fields<'_>, p: &mut Problems) -> Option<ServiceKind> {
    let given: Vec<&str> = KINDS
        .into_iter()
        .filter(|k| service.get(k).is_some())
        .collect();
    let &[key] = given.as_slice() else {
        let what = if given.is_empty() {
            "a service does not say how it is run".to_owned()
        } else {
            format!(
                "a service says more than once how it is run: {}",
                given.join(", ")
            )
        };
        p.add(
            service.pos,
            what,
            format!("write one of {}", KINDS.join(", ")),
        );
        return None;
    };
    if let (Some(pos), true) = (service.key_pos("parameters"), key != "ocf") {
        p.add(
            pos,
            format!("parameters do not belong to a service of kind {key}"),
            "remove them; only ocf has parameters",
        );
    }
    let tree = service.get(key)?;
    match key {
        "exec" => exec(tree, p),
        "script" => script(tree, p),
        "systemd" => unit(tree, p),
        "init" => {
            let todo = "write the absolute path of the script";
            let path = fields::parsed(tree, "init", todo, p, absolute);
            not_yet(service, key, p);
            Some(ServiceKind::Init { path: path? })
        }
        _ => {
            let kind = ocf(tree, service.get("parameters"), p);
            not_yet(service, key, p);
            kind
        }
    }
}

fn not_yet(service: &Fields<'_>, key: &str, p: &mut Problems) {
    p.add(
        service.key_pos(key).unwrap_or(service.pos),
        format!("services of kind {key} are not supported yet"),
        "use script with its start, stop and status commands instead",
    );
}

fn exec(tree: &Tree, p: &mut Problems) -> Option<ServiceKind> {
    let items = fields::list(tree, "exec", p);
    // An empty argument is fine; an empty program is not.
    let argv: Vec<String> = items
        .iter()
        .filter_map(|t| match &t.kind {
            Kind::Scalar(text) if text.is_empty() => Some(String::new()),
            _ => fields::text(t, "a word of exec", p).map(str::to_owned),
        })
        .collect();
    let first = items.first()?;
    if argv.len() != items.len() {
        return None;
    }
    if let Err(reason) = absolute(&argv[0]) {
        p.add(
            first.pos,
            format!("the program {:?} {reason}", cut(&argv[0])),
            "write the absolute path of the program first, then its arguments",
        );
        return None;
    }
    Some(ServiceKind::Exec { argv })
}

fn script(tree: &Tree, p: &mut Problems) -> Option<ServiceKind> {
    let f = Fields::new(tree, "script", &["start", "stop", "status"], p)?;
    let mut command = |key: &str| {
        f.need(key, "\"COMMAND\"", p)
            .and_then(|t| fields::text(t, key, p))
            .map(str::to_owned)
    };
    let (start, stop, status) = (command("start"), command("stop"), command("status"));
    Some(ServiceKind::Script {
        start: start?,
        stop: stop?,
        status: status?,
    })
}

/// A unit name by systemd.unit(5), with its suffix.
fn unit(tree: &Tree, p: &mut Problems) -> Option<ServiceKind> {
    let todo = "write the full name of the unit, such as kamailio.service";
    let unit = fields::parsed(tree, "systemd", todo, p, |t| {
        let characters = t
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b));
        let suffix = t
            .rsplit_once('.')
            .is_some_and(|(stem, suffix)| !stem.is_empty() && !suffix.is_empty());
        if characters && suffix && !t.starts_with('-') && t.len() < 256 {
            Ok(t.to_owned())
        } else {
            Err("is not the name of a unit")
        }
    })?;
    Some(ServiceKind::Systemd { unit })
}

fn ocf(tree: &Tree, parameters: Option<&Tree>, p: &mut Problems) -> Option<ServiceKind> {
    let todo = "write PROVIDER:TYPE, such as heartbeat:nginx";
    let agent = fields::parsed(tree, "ocf", todo, p, |t| match t.split_once(':') {
        Some((provider, kind)) if !provider.is_empty() && !kind.is_empty() => Ok(t.to_owned()),
        _ => Err("is not an agent"),
    });
    let mut read = BTreeMap::new();
    match parameters.map(|t| (&t.kind, t.pos)) {
        None => {}
        Some((Kind::Map(entries), _)) => {
            for (i, (key, value)) in entries.iter().enumerate() {
                repeated(entries, i, p);
                if let Some(text) = fields::text(value, "a parameter", p) {
                    read.insert(key.text.clone(), text.to_owned());
                }
            }
        }
        Some((_, pos)) => p.add(
            pos,
            "parameters must be a mapping",
            "write `parameters: { NAME: VALUE }`",
        ),
    }
    Some(ServiceKind::Ocf {
        agent: agent?,
        parameters: read,
    })
}
