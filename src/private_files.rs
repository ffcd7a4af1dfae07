//! Files and directories that only this user can read and write, independent of the umask.
//!
//! Symbolic links are not followed, and files of another user are not used: either would let another user choose which
//! file the broker writes.

#[cfg(feature = "embedded")]
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::{fs::OFlags, process::geteuid};

#[cfg(feature = "embedded")]
const DIRECTORY_MODE: u32 = 0o700;
/// The mode of directories such as `/tmp`, in which every user has files.
#[cfg(feature = "embedded")]
const STICKY: u32 = 0o1000;
#[cfg(feature = "embedded")]
const WRITABLE_BY_OTHERS: u32 = 0o022;
const FILE_MODE: u32 = 0o600;

/// Creates a directory if it does not exist, and makes it private. The path itself may be a symbolic link, which is the
/// operator's choice.
///
/// A directory that has files but none of `own`, or in which every user has files, may be used by other programs. It is
/// not made private, which would shut them out; the broker's files in it are private nevertheless.
///
/// # Errors
/// It cannot be created, is no directory, or belongs to another user; or it is not made private, and other users could
/// put their files in the place of the broker's.
#[cfg(feature = "embedded")]
pub(crate) fn create_directory(path: &Path, own: &[&str]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)?;
    let metadata = fs::metadata(path)?;
    check_owner(path, &metadata)?;
    let mode = metadata.permissions().mode();
    let is_private = mode & 0o777 & !DIRECTORY_MODE == 0;
    if is_private || !(mode & STICKY != 0 || is_used_by_others(path, own)?) {
        return make_private(path, &metadata, DIRECTORY_MODE);
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        let reason = "is used by other programs, and other users can write it; choose a directory of its own";
        return Err(refusal(path, reason));
    }
    tracing::warn!(
        path = %path.display(),
        "directory not made private, because it has files of other programs"
    );
    Ok(())
}

/// Returns whether a directory has files, and none of `own`.
#[cfg(feature = "embedded")]
fn is_used_by_others(directory: &Path, own: &[&str]) -> io::Result<bool> {
    if own.iter().any(|name| directory.join(name).exists()) {
        return Ok(false);
    }
    Ok(fs::read_dir(directory)?.next().is_some())
}

/// Opens a file for reading and writing, and makes it private. It is created if it does not exist.
///
/// # Errors
/// It cannot be opened, is no regular file, or belongs to another user.
#[cfg(feature = "embedded")]
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    make_private_if_exists(path)?;
    open(path, OpenOptions::new().create(true).read(true).write(true))
}

/// Makes a file private, unless it does not exist.
///
/// # Errors
/// It is no regular file, or belongs to another user.
pub(crate) fn make_private_if_exists(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        let kind = if metadata.is_symlink() {
            "a symbolic link"
        } else {
            "not a regular file"
        };
        return Err(refusal(path, &format!("is {kind}; remove it")));
    }
    make_private(path, &metadata, FILE_MODE)
}

/// Replaces the contents of a private file. A crash leaves the old contents or the new ones.
///
/// # Errors
/// It cannot be written, or a file of the same name with the extension `new` cannot be used.
#[cfg(feature = "simulator")]
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    use io::Write as _;

    let new = path.with_extension("new");
    make_private_if_exists(&new)?;
    open(
        &new,
        OpenOptions::new().create(true).truncate(true).write(true),
    )?
    .write_all(contents)?;
    fs::rename(new, path)
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let file = options.mode(FILE_MODE).custom_flags(no_follow).open(path)?;
    // A strict umask takes permissions from a new file that its owner needs.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

fn check_owner(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let (owner, user) = (metadata.uid(), geteuid().as_raw());
    if owner == user {
        return Ok(());
    }
    let reason = format!("belongs to user {owner}, and the broker runs as user {user}");
    Err(refusal(path, &reason))
}

fn make_private(path: &Path, metadata: &Metadata, mode: u32) -> io::Result<()> {
    check_owner(path, metadata)?;
    let found = metadata.permissions().mode() & 0o777;
    if found == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if found & !mode != 0 {
        tracing::warn!(
            path = %path.display(),
            found = format!("{found:04o}"),
            set = format!("{mode:04o}"),
            "permissions tightened"
        );
    }
    Ok(())
}

fn refusal(path: &Path, reason: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} {reason}", path.display()),
    )
}

#[cfg(test)]
#[cfg(all(feature = "embedded", feature = "simulator"))]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_directory_and_file_are_private() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        create_directory(&directory, &["file"]).unwrap();
        open_or_create(&directory.join("file")).unwrap();
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("file")), 0o600);
    }

    #[test]
    fn existing_directory_and_file_are_tightened_and_keep_their_contents() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let file = directory.join("file");
        fs::write(&file, "contents").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        create_directory(&directory, &["file"]).unwrap();
        open_or_create(&file).unwrap();
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read(&file).unwrap(), b"contents");
    }

    #[test]
    fn directory_that_others_use_is_left_as_it_is_and_refused_if_they_can_write_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("shared");
        fs::create_dir(&directory).unwrap();
        let create_in = |permissions: u32| {
            fs::set_permissions(&directory, Permissions::from_mode(permissions)).unwrap();
            let created = create_directory(&directory, &["file"]);
            assert_eq!(mode(&directory), permissions & 0o777);
            created.map_err(|error| error.to_string())
        };
        let refused = create_in(0o1777).unwrap_err();
        assert!(refused.contains("of its own"), "{refused}");
        fs::write(directory.join("other-program.sock"), "").unwrap();
        create_in(0o775).unwrap_err();
        create_in(0o755).unwrap();
        create_in(0o700).unwrap();
    }

    #[test]
    fn symbolic_link_and_directory_are_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (
            directory.path().join("target"),
            directory.path().join("link"),
        );
        fs::write(&target, "precious").unwrap();
        for target in [&target, &directory.path().join("dangling")] {
            symlink(target, &link).unwrap();
            let error = open_or_create(&link).unwrap_err().to_string();
            assert!(error.contains("link is a symbolic link"), "{error}");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert!(!directory.path().join("dangling").exists());
        fs::create_dir(&link).unwrap();
        let error = open_or_create(&link).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn directory_of_another_user_is_refused() {
        // Only root can give a directory away; the root directory belongs to root.
        let directory = tempfile::tempdir().unwrap();
        let (path, owner) = if geteuid().is_root() {
            chown(directory.path(), Some(4242), None).unwrap();
            (directory.path(), 4242)
        } else {
            (Path::new("/"), 0)
        };
        let error = create_directory(path, &[]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("belongs to user {owner}")),
            "{error}"
        );
    }

    #[test]
    fn replaced_file_is_private_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (file, target) = (
            directory.path().join("state.json"),
            directory.path().join("target"),
        );
        fs::write(&target, "precious").unwrap();
        replace(&file, b"first").unwrap();
        replace(&file, b"second").unwrap();
        assert_eq!(
            (fs::read(&file).unwrap(), mode(&file)),
            (b"second".to_vec(), 0o600)
        );
        symlink(&target, directory.path().join("state.new")).unwrap();
        replace(&file, b"third").unwrap_err();
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
}
