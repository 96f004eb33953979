//! From what was asked and what exists to the instance of this run.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::{FORMAT, Home, Instance, Service, network, ports};
use crate::failure::Failure;

/// What the command line asked for; `None` keeps what the instance has (or takes the default).
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) mount: Option<PathBuf>,
    pub(crate) volume: Option<String>,
    pub(crate) dirs: Option<u32>,
    pub(crate) mrcs: Option<u32>,
    pub(crate) osds: Option<u32>,
    pub(crate) replicas: Option<u32>,
    pub(crate) stripe_width: Option<u32>,
    pub(crate) separate: bool,
    pub(crate) no_mount: bool,
    pub(crate) no_exec: bool,
    /// See [`Instance::network`]; only a new instance can be told.
    pub(crate) network: Option<String>,
}

/// Makes a new instance, or the next run of an old one. Ports that an old one kept stay, unless it runs in one
/// process and somebody else took them meanwhile.
pub(crate) fn plan(old: Option<Instance>, wish: &Wish, home: &Home) -> Result<Instance, Failure> {
    let mut instance = old.unwrap_or_else(|| Instance {
        format: FORMAT,
        separate: wish.separate,
        volume: "default".to_owned(),
        mount: home.data.join("mnt"),
        mounted: true,
        replicas: 1,
        stripe_width: 1,
        network: wish.network.clone(),
        services: Vec::new(),
    });
    instance.separate |= wish.separate;
    if let Some(volume) = &wish.volume {
        instance.volume.clone_from(volume);
    }
    if let Some(mount) = &wish.mount {
        instance.mount = std::path::absolute(mount)
            .map_err(|error| Failure::usage(format!("mount point {}", mount.display()), error))?;
    }
    instance.replicas = wish.replicas.unwrap_or(instance.replicas);
    instance.stripe_width = wish.stripe_width.unwrap_or(instance.stripe_width);
    instance.mounted = !wish.no_mount;
    services(&mut instance, wish)?;
    refuse_impossible(&instance)?;
    Ok(instance)
}

/// Brings the list of services to the wanted numbers.
fn services(instance: &mut Instance, wish: &Wish) -> Result<(), Failure> {
    let fresh = instance.services.is_empty();
    let mut taken: BTreeSet<u16> = instance
        .services
        .iter()
        .flat_map(|service| [ports::of(&service.addr), ports::of(&service.http)])
        .collect();
    for (role, wanted) in [("dir", wish.dirs), ("mrc", wish.mrcs), ("osd", wish.osds)] {
        let have = u32::try_from(instance.of_role(role).count()).unwrap_or(u32::MAX);
        let want = wanted.unwrap_or(have.max(1));
        if !(1..=64).contains(&want) {
            return Err(Failure::usage(format!("--{role}s {want}"), "from 1 to 64 are possible"));
        }
        if !fresh && want < have || !fresh && want > have && role != "osd" {
            return Err(Failure::usage(
                format!("--{role}s {want}"),
                format!("this instance has {have} already"),
            )
            .next(format!("leave --{role}s out, or use another --data directory")));
        }
        for index in have..want {
            instance.services.push(service(role, index, instance.network.as_ref(), &mut taken)?);
        }
    }
    for role in ["rms", "mount", "exec"] {
        if instance.of_role(role).next().is_none() {
            instance.services.push(service(role, 0, instance.network.as_ref(), &mut taken)?);
        }
    }
    let order = ["dir", "mrc", "osd", "rms", "mount", "exec"];
    instance.services.sort_by_key(|service| order.iter().position(|role| *role == service.role));
    let osds = instance.of_role("osd").count();
    for service in &mut instance.services {
        service.enabled = match service.role.as_str() {
            "mount" => !wish.no_mount,
            // On one OSD there is nothing to replicate, to encode or to move.
            "rms" => osds > 1,
            // Jobs see their files through the mount.
            "exec" => !wish.no_exec && !wish.no_mount,
            _ => true,
        };
    }
    keep_ports(instance, &mut taken)
}

fn service(
    role: &str,
    index: u32,
    network: Option<&String>,
    taken: &mut BTreeSet<u16>,
) -> Result<Service, Failure> {
    let host = network.and_then(|_| network::address(role, index)).unwrap_or(Ipv4Addr::LOCALHOST);
    let addr = match role {
        "rms" | "mount" | "exec" => String::new(),
        _ => format!("tcp://{host}:{}", ports::choose(taken)?),
    };
    Ok(Service {
        name: format!("{role}-{index}"),
        role: role.to_owned(),
        uuid: uuid::Uuid::new_v4().to_string(),
        addr,
        http: format!("{host}:{}", ports::choose(taken)?),
        enabled: true,
        join: false,
    })
}

/// One more member of the DIR or of the MRC group of a running instance, or one more OSD. Its name is new: what is left of one that was
/// removed stays what it was.
pub(crate) fn add_member(instance: &mut Instance, role: &str, home: &Home) -> Result<Service, Failure> {
    let mut taken: BTreeSet<u16> = instance
        .services
        .iter()
        .flat_map(|service| [ports::of(&service.addr), ports::of(&service.http)])
        .collect();
    let name = |index: u32| format!("{role}-{index}");
    let is_new = |index: &u32| {
        let name = name(*index);
        !home.state(&name).exists() && instance.services.iter().all(|service| service.name != name)
    };
    let index = (0..1000).find(is_new).ok_or_else(|| {
        Failure::new(format!("a name for another {role}"), "names up to 999 were all used")
            .next(format!("remove the directories of those that are gone from {}", home.data.display()))
    })?;
    let service = Service { join: true, ..service(role, index, instance.network.as_ref(), &mut taken)? };
    // Behind the last of its role: started after the others, stopped before them.
    let at = instance.services.iter().rposition(|known| known.role == role).map_or(0, |last| last + 1);
    instance.services.insert(at, service.clone());
    Ok(service)
}

/// A kept port may have been taken by somebody else. HTTP ports and those of a lone member move; the members of a
/// Raft group know one another by address, so there the port must be given back.
fn keep_ports(instance: &mut Instance, taken: &mut BTreeSet<u16>) -> Result<(), Failure> {
    if instance.network.is_some() {
        // Addresses of their own: nobody else takes a port there.
        return Ok(());
    }
    let members = |role: &str| instance.of_role(role).count();
    let (dirs, mrcs) = (members("dir"), members("mrc"));
    for service in &mut instance.services {
        if !ports::is_free(ports::of(&service.http)) {
            service.http = format!("127.0.0.1:{}", ports::choose(taken)?);
        }
        let port = ports::of(&service.addr);
        if port == 0 || ports::is_free(port) {
            continue;
        }
        let fixed = match service.role.as_str() {
            "dir" => dirs > 1,
            "mrc" => mrcs > 1,
            _ => false,
        };
        if fixed {
            return Err(Failure::new(
                format!("port {port} of {}", service.name),
                "another program listens on it",
            )
            .next(format!("see which one with `ss -ltnp 'sport = :{port}'`, stop it, run `xtfs up` again")));
        }
        service.addr = format!("tcp://127.0.0.1:{}", ports::choose(taken)?);
    }
    Ok(())
}

fn refuse_impossible(instance: &Instance) -> Result<(), Failure> {
    let osds = u32::try_from(instance.of_role("osd").count()).unwrap_or(u32::MAX);
    let striping = proto::stripe::Striping {
        stripe_bytes: proto::limits::STRIPE_BYTES_DEFAULT,
        width: instance.stripe_width,
        replicas: instance.replicas,
        replication: 0,
        coding: None,
    };
    striping.check().map_err(|why| Failure::usage("layout of new files", why))?;
    if instance.replicas > osds {
        return Err(Failure::usage(
            format!("--replicas {}", instance.replicas),
            format!("copies lie on different OSDs, and there are {osds}"),
        )
        .next(format!("add --osds {}", instance.replicas)));
    }
    if instance.stripe_width > osds {
        return Err(Failure::usage(
            format!("--stripe-width {}", instance.stripe_width),
            format!("a file cannot be spread over more OSDs than there are ({osds})"),
        )
        .next(format!("add --osds {}", instance.stripe_width)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home { data: PathBuf::from("/nowhere") }
    }

    fn wish(dirs: u32, mrcs: u32, osds: u32) -> Wish {
        Wish { dirs: Some(dirs), mrcs: Some(mrcs), osds: Some(osds), separate: true, ..Wish::default() }
    }

    #[test]
    fn names_and_ports_are_unique() {
        let instance = plan(None, &wish(3, 3, 4), &home()).unwrap();
        let names: Vec<&str> = instance.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "dir-0", "dir-1", "dir-2", "mrc-0", "mrc-1", "mrc-2", "osd-0", "osd-1", "osd-2", "osd-3",
                "rms-0", "mount-0", "exec-0"
            ]
        );
        let mut seen: Vec<u16> = instance
            .services
            .iter()
            .flat_map(|service| [ports::of(&service.addr), ports::of(&service.http)])
            .collect();
        seen.retain(|port| *port != 0);
        assert_eq!(seen.len(), 23);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 23);
    }

    #[test]
    fn in_a_network_every_server_has_an_address_of_its_own() {
        let wish = Wish { network: Some("n".to_owned()), ..wish(3, 3, 4) };
        let instance = plan(None, &wish, &home()).unwrap();
        let host = |service: &Service| service.http.split(':').next().unwrap_or_default().to_owned();
        let servers = || instance.services.iter().filter(|service| !service.addr.is_empty());
        assert_eq!(servers().map(host).collect::<BTreeSet<_>>().len(), 10);
        assert!(servers().all(|service| service.listen().starts_with(&format!("{}:", host(service)))));
        assert_eq!(host(instance.service("mount-0").unwrap()), "127.0.0.1");
        // The next run is in the same network, whatever it is told.
        assert_eq!(plan(Some(instance.clone()), &Wish::default(), &home()).unwrap(), instance);
    }

    #[test]
    fn the_next_run_keeps_identities_and_may_add_osds() {
        let first = plan(None, &wish(1, 1, 1), &home()).unwrap();
        let again = plan(Some(first.clone()), &Wish::default(), &home()).unwrap();
        assert_eq!(first, again);
        let more = plan(Some(first.clone()), &Wish { osds: Some(3), ..Wish::default() }, &home()).unwrap();
        assert_eq!(more.of_role("osd").count(), 3);
        assert_eq!(more.service("osd-0").unwrap(), first.service("osd-0").unwrap());
        assert!(plan(Some(more), &Wish { osds: Some(2), ..Wish::default() }, &home()).is_err());
        assert_eq!(plan(Some(first), &wish(3, 1, 1), &home()).unwrap_err().status, 2);
    }

    #[test]
    fn a_taken_port_moves_for_a_lone_member_and_is_an_error_in_a_group() {
        let lone = plan(None, &wish(1, 1, 1), &home()).unwrap();
        let squat = std::net::TcpListener::bind(lone.service("dir-0").unwrap().listen()).unwrap();
        let moved = plan(Some(lone.clone()), &Wish::default(), &home()).unwrap();
        assert_ne!(moved.service("dir-0").unwrap().addr, lone.service("dir-0").unwrap().addr);
        drop(squat);
        let group = plan(None, &wish(1, 3, 1), &home()).unwrap();
        let _squat = std::net::TcpListener::bind(group.service("mrc-1").unwrap().listen()).unwrap();
        let why = plan(Some(group), &Wish::default(), &home()).unwrap_err().to_string();
        assert!(why.contains("mrc-1"), "{why}");
    }

    #[test]
    fn another_member_has_a_name_and_ports_that_nobody_had() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home { data: dir.path().to_owned() };
        let mut instance = plan(None, &wish(1, 3, 1), &home).unwrap();
        let added = add_member(&mut instance, "mrc", &home).unwrap();
        assert_eq!((added.name.as_str(), added.join, added.enabled), ("mrc-3", true, true));
        assert_eq!(instance.addrs("mrc")[3], added.addr);
        let names: Vec<&str> = instance.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names[..6], ["dir-0", "mrc-0", "mrc-1", "mrc-2", "mrc-3", "osd-0"]);
        // It was removed and left its state.
        std::fs::create_dir(home.state("mrc-3")).unwrap();
        instance.services.retain(|service| service.name != "mrc-3");
        assert_eq!(add_member(&mut instance, "mrc", &home).unwrap().name, "mrc-4");
        // The next run takes what is there.
        let again = plan(Some(instance.clone()), &Wish { separate: true, ..Wish::default() }, &home).unwrap();
        assert_eq!(again, instance);
    }

    #[test]
    fn without_a_mount_there_are_no_jobs() {
        let instance = plan(None, &Wish { no_mount: true, ..Wish::default() }, &home()).unwrap();
        let roles: Vec<&str> = instance.enabled().map(|service| service.role.as_str()).collect();
        assert_eq!(roles, ["dir", "mrc", "osd"]);
    }

    #[test]
    fn impossible_layouts_are_wrong_usage() {
        for wish in [
            Wish { replicas: Some(2), ..Wish::default() },
            Wish { stripe_width: Some(2), ..Wish::default() },
            Wish { stripe_width: Some(0), ..Wish::default() },
            Wish { osds: Some(0), ..Wish::default() },
        ] {
            assert_eq!(plan(None, &wish, &home()).unwrap_err().status, 2, "{wish:?}");
        }
    }
}
