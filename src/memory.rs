//! The memory that this process may use.

use std::fs;

/// Bytes of the machine's memory; none where it isn't known.
pub fn total() -> Option<u64> {
    meminfo("MemTotal")
}

/// Bytes that are free: the machine's, or what the process's control group has left of its limit.
pub fn available() -> Option<u64> {
    let machine = meminfo("MemAvailable");
    match group() {
        Some(group) => Some(machine.map_or(group, |machine| machine.min(group))),
        None => machine,
    }
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

/// What is left of the control group's limit; none where there is no limit.
fn group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let read = |file: &str| {
        // In a container the group's own files are at the top.
        let places = [format!("/sys/fs/cgroup{path}/{file}"), format!("/sys/fs/cgroup/{file}")];
        places.iter().find_map(|place| fs::read_to_string(place).ok())
    };
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    // Files that are cached count as used, but give way.
    let used = read("memory.stat")?.lines().find_map(|line| line.strip_prefix("anon ")?.parse().ok())?;
    Some(limit.saturating_sub(used))
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
}
