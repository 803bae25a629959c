//! Sockets in the file system: whose they are, and that nothing is taken that is somebody else's.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clearcoat_conf::SocketFile;
use nix::unistd::chown;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::process::{group_id, user_id};

/// The file of a socket that we listen on. It is taken away at the end, if it is still ours.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Device and inode, which tell it from one that another process has put there since.
    made: (u64, u64),
}

impl Place {
    /// Takes the file away.
    pub(crate) fn leave(&self) {
        if identity(&self.path).is_ok_and(|found| found == self.made)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the file of a socket stays behind");
        }
    }
}

/// Listens on a socket in the file system. One that a process left behind is taken away; one that is answered is not, nor is what is no
/// socket.
///
/// Nobody comes in before owner and mode are as they are to be: until it listens, the kernel refuses whoever tries.
///
/// # Errors
///
/// If another process listens there, nothing can be made there, or there is no such user or group.
pub(crate) fn bind(path: &Path, file: &SocketFile, backlog: i32) -> anyhow::Result<(UnixListener, Place)> {
    let said = || format!("listening on {}", path.display());
    if UnixStream::connect(path).is_ok() {
        bail!("{}: another process does already", said());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    ensure!(folder.is_dir(), "{}: there is no folder {}", said(), folder.display());
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).with_context(said)?,
        Ok(_) => bail!("{}: something else is there, which is no socket", said()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(said),
    }
    let user = file.user.as_deref().map(user_id).transpose().with_context(said)?;
    let group = file.group.as_deref().map(group_id).transpose().with_context(said)?;
    let bound = || -> io::Result<(Socket, Place)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let place = Place { path: path.to_owned(), made: identity(path)? };
        chown(path, user, group)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(file.mode))?;
        socket.listen(backlog)?;
        socket.set_nonblocking(true)?;
        Ok((socket, place))
    };
    let (socket, place) = bound().with_context(said)?;
    Ok((socket.into(), place))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_ours_or_left_behind_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let file = SocketFile { mode: 0o640, ..SocketFile::FOR_GROUP };
        drop(UnixListener::bind(&path).unwrap());
        let (listener, place) = bind(&path, &file, 8).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let error = bind(&path, &file, 8).unwrap_err();
        assert!(format!("{error:#}").contains("another process"), "{error:#}");
        // Another has taken the place: it stays.
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        // Keeps the inode from being given out again.
        let (_other, theirs) = bind(&path, &file, 8).unwrap();
        let stale = Place { made: (place.made.0, u64::MAX), path: path.clone() };
        drop(stale);
        assert!(path.exists());
        drop(theirs);
        assert!(!path.exists());
        std::fs::write(&path, "notes").unwrap();
        let error = bind(&path, &file, 8).unwrap_err();
        assert!(format!("{error:#}").contains("no socket"), "{error:#}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
        let file = SocketFile { group: Some("no-such-group".into()), ..file };
        let error = bind(&folder.path().join("b.sock"), &file, 8).unwrap_err();
        assert!(format!("{error:#}").contains("groupadd"), "{error:#}");
    }
}
