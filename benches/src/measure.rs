//! Reads what a process has used, and brings many readings down to one.
//! In: /proc. Out: nanoseconds of CPU, KiB of memory, medians.
//! Invariant: CPU time comes from the operating system, never from the wall clock.
//! Never: measures the load generator.
//! Spec: proc(5), schedstat.

use std::path::Path;

use crate::Failure;

/// The CPU time of a process so far, in nanoseconds: the sum over its threads.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64, Failure> {
    let mut total = 0_u64;
    for task in fs_err::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        if let Ok(text) = fs_err::read_to_string(path) {
            total += first_number(&text).ok_or("schedstat holds no number")?;
        }
    }
    Ok(total)
}

/// The memory of a process that is in RAM, in KiB.
pub(crate) fn rss_kib(pid: u32) -> Result<u64, Failure> {
    let text = fs_err::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(first_number).ok_or("status holds no VmRSS")?)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The middle reading; of an even number the mean of the two in the middle.
pub(crate) fn median(readings: &[f64]) -> Option<f64> {
    let mut sorted = readings.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu_ns(pid).unwrap() > 0);
        assert!(rss_kib(pid).unwrap() > 100);
        assert!(cpu_ns(u32::MAX).is_err());
    }
}
