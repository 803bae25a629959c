//! `[[listen]]` and `[admin]`: addresses, and that no two clash.

use std::ops::Range;

use super::Check;
use super::misc::secret;
use crate::config::{Admin, Listen, ListenAddress};
use crate::file::{AdminTable, At, ListenTable};

/// Checks the listeners and the admin API together, as they share the ports of the machine.
pub(super) fn check(
    check: &mut Check<'_>,
    listen: Option<At<Vec<At<ListenTable>>>>,
    admin: Option<At<AdminTable>>,
) -> (Vec<Listen>, Option<Admin>) {
    // A missing `listen` has been reported by its shape.
    if let Some(list) = &listen
        && list.value.is_empty()
        && !check.damaged.contains(&list.span)
    {
        check.report(&list.span, "there is no listener", "add [[listen]] with address = \"0.0.0.0:80\"");
    }
    let mut taken: Vec<(ListenAddress, Range<usize>)> = Vec::new();
    for table in listen.into_iter().flat_map(|list| list.value) {
        let Some(at) = table.value.address else { continue };
        let Some(address) = check.value::<ListenAddress>(&at) else { continue };
        if let Some((other, first)) = taken.iter().find(|(other, _)| other.clashes_with(&address)) {
            let line = check.line(first);
            let message = if *other == address {
                format!("{address} is listened on twice, first in line {line}")
            } else {
                format!("{address} and {other} in line {line} are the same port")
            };
            check.report(&at.span, message, "take one of them out or choose another port");
            continue;
        }
        taken.push((address, at.span));
    }
    let admin = check_admin(check, admin, &taken);
    (taken.into_iter().map(|(address, _)| Listen { address }).collect(), admin)
}

fn check_admin(
    check: &mut Check<'_>,
    table: Option<At<AdminTable>>,
    taken: &[(ListenAddress, Range<usize>)],
) -> Option<Admin> {
    let AdminTable { enabled, address, token } = table.map(|table| table.value).unwrap_or_default();
    let enabled = enabled.is_none_or(|enabled| enabled.value);
    let mut admin = Admin::default();
    let span = address.as_ref().map(|at| at.span.clone());
    if let Some(given) = address {
        admin.address = check.value(&given).unwrap_or(admin.address);
    }
    let token_is_given = token.is_some() || check.is_wrong("admin.token");
    admin.token = token.and_then(|token| secret(check, token));
    if !enabled {
        return None;
    }
    if check.is_wrong("admin.address") || check.is_wrong("admin.enabled") {
        return Some(admin);
    }

    if let Some((other, first)) = taken.iter().find(|(other, _)| other.clashes_with(&admin.address)) {
        let message =
            format!("the admin API at {} and the listener at {other} are the same port", admin.address);
        let hint = "give one of them another port; without admin.address the API is at 127.0.0.1:6082";
        check.report(span.as_ref().unwrap_or(first), message, hint);
    }
    // A token that is given but wrong has been reported.
    if let Some(span) = span
        && !admin.address.is_local()
        && !token_is_given
    {
        check.report(
            &span,
            format!("whoever reaches {} could purge everything", admin.address),
            "add a token under [admin], such as token = { env = \"CLEARCOAT_TOKEN\" }, or listen on 127.0.0.1",
        );
    }
    Some(admin)
}
