//! The memory that this process may use.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the machine's memory; none where it isn't known.
pub fn total() -> Option<u64> {
    meminfo("MemTotal")
}

/// Bytes that the process's control group may use, if that is less than the machine has: a container's limit.
pub fn limit() -> Option<u64> {
    let limit = groups().into_iter().map(|group| group.limit).min()?;
    total().is_none_or(|total| limit < total).then_some(limit)
}

/// Bytes that are free: the machine's, or what a control group of the process has left of its limit.
pub fn available() -> Option<u64> {
    let left = groups().into_iter().map(|group| group.limit.saturating_sub(group.used));
    left.chain(meminfo("MemAvailable")).min()
}

/// `count` times `each` zeros; none where they don't fit into what is available.
pub fn zeros(count: usize, each: usize) -> Option<Vec<u8>> {
    let length = count.checked_mul(each)?;
    // The system promises more memory than there is, and ends the process that uses it.
    if available().is_some_and(|free| length as u64 > free) {
        return None;
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).ok()?;
    bytes.resize(length, 0);
    Some(bytes)
}

/// A line of /proc/meminfo, which other systems than Linux don't have.
fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A control group with a limit.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    limit: u64,
    used: u64,
}

/// The process's control group and those above it, as far as they have a limit.
fn groups() -> Vec<Group> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_of(&own, Path::new("/sys/fs/cgroup"))
}

/// `own` is /proc/self/cgroup, `mount` where control groups are mounted.
fn groups_of(own: &str, mount: &Path) -> Vec<Group> {
    own.lines().flat_map(|line| groups_in(line, mount).unwrap_or_default()).collect()
}

/// Those of one hierarchy, a line `number:controllers:path`.
fn groups_in(line: &str, mount: &Path) -> Option<Vec<Group>> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    // Version 2 has one hierarchy without names, version 1 one for each controller. Files that are cached count as used,
    // but give way: only what stays is taken.
    let (mount, limit, used) = match controllers {
        "" => (mount.to_path_buf(), "memory.max", ["anon", "shmem"]),
        names if names.split(',').any(|name| name == "memory") => {
            (mount.join("memory"), "memory.limit_in_bytes", ["total_rss", "total_shmem"])
        }
        _ => return None,
    };
    // Up to the mount: in a container the path is the host's and isn't there, its own group is the mount.
    let folders = Path::new(path.trim_start_matches('/')).ancestors().map(|folder| mount.join(folder));
    let group = |folder: PathBuf| {
        // `max`, or a number of the size of the address space, where there is none.
        let limit = fs::read_to_string(folder.join(limit)).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let counts = stat.lines().filter_map(|line| line.split_once(' '));
        let used =
            counts.filter(|(name, _)| used.contains(name)).filter_map(|(_, count)| count.parse::<u64>().ok());
        Some(Group { limit, used: used.sum() })
    };
    Some(folders.filter_map(group).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(zeros(3, 4).unwrap(), [0; 12]);
        assert!(zeros(usize::MAX, 2).is_none() && zeros(usize::MAX / 2, 1).is_none());
        if let Some(free) = available() {
            assert!(zeros(2, free as usize).is_none());
            assert!(total().is_some());
        }
    }

    /// Files of control groups below a mount.
    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        mount
    }

    #[test]
    fn control_groups_of_version_2_up_to_the_mount() {
        let mount = mount(&[
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.stat", "anon 10\nfile 900\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.stat", "anon 30\nfile 900\nshmem 5\nanon_thp 7\n"),
        ]);
        assert_eq!(groups_of("0::/a/b\n", mount.path()), [Group { limit: 1000, used: 35 }]);
        assert_eq!(groups_of("0::/\n", mount.path()), []);
        assert_eq!(groups_of("", mount.path()), []);
    }

    #[test]
    fn control_groups_of_version_1_in_a_container() {
        let mount = mount(&[
            ("memory/memory.limit_in_bytes", "2000\n"),
            ("memory/memory.stat", "rss 1\ntotal_rss 40\ntotal_shmem 2\ntotal_cache 900\n"),
            ("cpu/memory.limit_in_bytes", "1\n"),
        ]);
        // The path is the host's.
        let own = "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/docker/1\n";
        assert_eq!(groups_of(own, mount.path()), [Group { limit: 2000, used: 42 }]);
    }
}
