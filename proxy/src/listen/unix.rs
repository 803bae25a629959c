//! Sockets in the file system: whose they are, and that nothing is taken that is somebody else's.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clearcoat_conf::SocketFile;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Gid, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::process::{group_id, user_id};

/// How often, and after which pause, another process is waited for that binds in the same folder.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The file of a socket that we listen on. It is taken away once, at the end at the latest, if it is still ours.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Device and inode, which tell it from one that another process has put there since.
    made: (u64, u64),
    /// From then on its numbers may be those of another file.
    left: AtomicBool,
}

impl Place {
    /// Takes the file away.
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Relaxed)
            && identity(&self.path).is_ok_and(|found| found == self.made)
            && let Err(error) = fs::remove_file(&self.path)
        {
            // The next start takes it away.
            tracing::debug!(path = %self.path.display(), %error, "the file of a socket stays behind");
        }
    }

    /// Sets owner and mode, without following a link that somebody may have put there meanwhile.
    fn give(&self, (user, group): (Option<Uid>, Option<Gid>), mode: u32) -> anyhow::Result<()> {
        if user.is_some() || group.is_some() {
            lchown(&self.path, user.map(Uid::as_raw), group.map(Gid::as_raw))
                .context("its owner cannot be set; only root gives files to others")?;
        }
        if fs::symlink_metadata(&self.path)?.mode() & 0o777 != mode {
            let bits = Mode::from_bits_truncate(mode);
            fchmodat(AT_FDCWD, &self.path, bits, FchmodatFlags::NoFollowSymlink)
                .context("its mode cannot be set")?;
        }
        Ok(())
    }
}

/// Listens on a socket in the file system. One that a process left behind is taken away; one that is answered is not, nor is what is no
/// socket.
///
/// Nobody comes in before owner and mode are as they are to be: they are set before it listens, and until then the kernel refuses
/// whoever tries. The umask, which would be that of all threads, is let be.
///
/// # Errors
///
/// If another process listens there, nothing can be made there, or there is no such user or group.
pub(crate) fn bind(
    path: &Path,
    file: &SocketFile,
    backlog: i32,
) -> anyhow::Result<(UnixListener, Arc<Place>)> {
    let said = || format!("listening on {}", path.display());
    let user = file.user.as_deref().map(user_id).transpose().with_context(said)?;
    let group = file.group.as_deref().map(group_id).transpose().with_context(said)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    ensure!(folder.is_dir(), "{}: there is no folder {}", said(), folder.display());
    // Of two that start at once, neither is to take the other's socket for one that was left behind.
    let _turn = turn(folder);
    make_room(path).with_context(said)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).with_context(said)?;
    SockAddr::unix(path).and_then(|address| socket.bind(&address)).with_context(said)?;
    let made = identity(path).with_context(said)?;
    let place = Arc::new(Place { path: path.to_owned(), made, left: AtomicBool::new(false) });
    place.give((user, group), file.mode).with_context(said)?;
    socket.listen(backlog).and_then(|()| socket.set_nonblocking(true)).with_context(said)?;
    Ok((socket.into(), place))
}

/// Takes away a socket that nobody listens on.
fn make_room(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => bail!("something else is there, which is no socket"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("another process does already"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("the socket of a process that is gone cannot be taken away")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It may be in use by somebody who does not let us in.
        Err(error) => Err(error).context("a socket is there, and whether anybody listens cannot be told"),
    }
}

/// A lock on a folder, until it is dropped. Where it cannot be had, one goes on without.
fn turn(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    for _ in 0..TRIES {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

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
        let stale =
            Place { made: (place.made.0, u64::MAX), path: path.clone(), left: AtomicBool::new(false) };
        drop(stale);
        // Nor does one go twice, whatever has its numbers by then.
        let left = Place { made: theirs.made, path: path.clone(), left: AtomicBool::new(true) };
        drop(left);
        assert!(path.exists());
        drop(theirs);
        assert!(!path.exists());
        std::fs::write(&path, "notes").unwrap();
        let error = bind(&path, &file, 8).unwrap_err();
        assert!(format!("{error:#}").contains("no socket"), "{error:#}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
        for mode in [0o600, 0o666, 0o777] {
            let path = folder.path().join(format!("{mode:o}.sock"));
            let (_listener, _place) = bind(&path, &SocketFile { mode, ..SocketFile::FOR_GROUP }, 8).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        let file = SocketFile { group: Some("no-such-group".into()), ..file };
        let error = bind(&folder.path().join("b.sock"), &file, 8).unwrap_err();
        assert!(format!("{error:#}").contains("groupadd"), "{error:#}");
    }
}
