//! Which calls of the kernel the process gives up (seccomp).
//!
//! Those that a server never makes and whoever breaks into one wants. A list of what is denied rather than of what is allowed: the allocator, the C library and tokio make other calls with each
//! release, and a server that dies of an upgrade of its C library is worse than one more call allowed. What is denied answers EPERM,
//! as if the process had no right to it, so that a library that only tries goes on.

use std::collections::BTreeMap;

use anyhow::Context as _;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// What is denied whatever its arguments are.
const DENIED: &[i64] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    // Its keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    // Who we are.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    // The machine's name and clock.
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Where memory lies.
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
];

/// The same, which only this machine has.
#[cfg(target_arch = "x86_64")]
const OF_THIS_MACHINE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_kexec_file_load,
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
/// kexec_file_load, which libc does not name there for musl.
#[cfg(target_arch = "aarch64")]
const OF_THIS_MACHINE: &[i64] = &[294];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OF_THIS_MACHINE: &[i64] = &[];

/// What x86-64 also answers to where the kernel has x32: the same numbers with this bit, and some of its own.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const ONLY_X32: std::ops::RangeInclusive<i64> = 512..=547;

/// Gives them up, for all threads. Tells what is in force, or why nothing is.
pub(super) fn restrict() -> Result<String, String> {
    let (programs, count) = programs().map_err(|error| format!("{error:#}"))?;
    for program in programs {
        apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    }
    Ok(format!("{count} calls given up"))
}

/// The filters, and how many calls they deny.
fn programs() -> anyhow::Result<([BpfProgram; 2], usize)> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().chain(OF_THIS_MACHINE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, vec![new_process()?]);
    rules.insert(libc::SYS_socket, vec![other_network()?]);
    // And clone3, by the second filter.
    let count = rules.len() + 1;
    #[cfg(target_arch = "x86_64")]
    {
        let plain: Vec<i64> = rules.keys().copied().chain([libc::SYS_clone3]).collect();
        rules.extend(plain.into_iter().chain(ONLY_X32).map(|call| (call | X32, Vec::new())));
    }
    // A pointer leads to what it should do, and a filter cannot look there: with this answer the C library takes clone instead.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(([program(rules, libc::EPERM)?, program(newer, libc::ENOSYS)?], count))
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> anyhow::Result<BpfProgram> {
    let machine = std::env::consts::ARCH.try_into().context("no filter for this machine")?;
    let denied = SeccompAction::Errno(error.unsigned_abs());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, denied, machine)?.try_into()?)
}

/// A clone that is no thread of ours.
fn new_process() -> anyhow::Result<SeccompRule> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let is_none = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?;
    Ok(SeccompRule::new(vec![is_none])?)
}

/// A socket that is neither of the internet nor of this machine; by netlink the C library asks which addresses there are.
fn other_network() -> anyhow::Result<SeccompRule> {
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let is_not = |family: i32| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()))
    };
    Ok(SeccompRule::new(families.into_iter().map(is_not).collect::<Result<Vec<_>, _>>()?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_filters_can_be_made_and_name_each_call_once() {
        let (programs, count) = programs().unwrap();
        assert!(programs[0].len() > count, "{count}");
        assert_eq!(count, DENIED.len() + OF_THIS_MACHINE.len() + 3);
    }
}
