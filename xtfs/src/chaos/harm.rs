//! Damage where an OSD keeps its blocks. Only blocks of the data that nobody writes any more, each at one OSD in a run: its
//! other replicas are whole, so that the file system has what it needs to mend it, whatever else happens.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::blocks::SIZE;
use super::dice::Dice;
use super::loads::{BLOCKS, Data, FILES};

/// Blocks that were damaged.
pub(super) type Harmed = BTreeSet<(usize, usize)>;

/// After so many zeros nothing more is looked for.
const NOTHING_MAX: usize = 16 << 20;

/// Damages one block; says what it did, or `None` when the OSD's data files hold none that is whole everywhere.
pub(super) fn harm(
    folder: &Path,
    still: &Data,
    dice: &mut Dice,
    harmed: &mut Harmed,
) -> io::Result<Option<String>> {
    let mut held = Vec::new();
    for path in data_files(folder)? {
        find(&path, still, harmed, &mut held)?;
    }
    if held.is_empty() {
        return Ok(None);
    }
    let (path, at, (file, block)) = held.swap_remove(dice.below(held.len()));
    let disk = OpenOptions::new().read(true).write(true).open(&path)?;
    let how = if dice.below(2) == 0 {
        let within = at + dice.between(200, SIZE as u64);
        let mut byte = [0];
        disk.read_exact_at(&mut byte, within)?;
        disk.write_all_at(&[byte[0] ^ 0x10], within)?;
        "one bit flipped"
    } else {
        disk.write_all_at(&[0; SIZE], at)?;
        "zeroed"
    };
    disk.sync_data()?;
    harmed.insert((file, block));
    Ok(Some(format!("block {block} of still/f{file} {how}")))
}

type Place = (PathBuf, u64, (usize, usize));

fn find(path: &Path, still: &Data, harmed: &Harmed, held: &mut Vec<Place>) -> io::Result<()> {
    let disk = std::fs::File::open(path)?;
    let mut piece = vec![0; 256 * SIZE];
    let mut at = 0;
    let zeros = piece.clone();
    let mut nothing = 0;
    // A data file is allocated as a whole, a GiB at once, and filled from its beginning.
    while nothing < NOTHING_MAX {
        let got = disk.read_at(&mut piece, at)?;
        nothing = if piece[..got] == zeros[..got] { nothing + got } else { 0 };
        for (index, bytes) in piece[..got].chunks_exact(SIZE).enumerate() {
            if let Some(name) = named(still, bytes)
                && !harmed.contains(&name)
            {
                held.push((path.to_owned(), at + (index * SIZE) as u64, name));
            }
        }
        // A short read can only be at the end: pieces are whole blocks.
        if got < piece.len() {
            break;
        }
        at += got as u64;
    }
    Ok(())
}

/// Which block of the still data this is.
fn named(still: &Data, bytes: &[u8]) -> Option<(usize, usize)> {
    if !bytes.starts_with(b"xtfs chaos ") {
        return None;
    }
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    let ["xtfs", "chaos", _, "file", file, "block", block, ..] = words.as_slice() else { return None };
    let (file, block) = (file.parse().ok()?, block.parse().ok()?);
    let is = file < FILES && block < BLOCKS && still.name(file, block, 1).heads(bytes);
    is.then_some((file, block))
}

/// `shard-*.data-*` in the folder and below.
fn data_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if name.starts_with("shard-") && name.contains(".data-") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_is_changed_and_none_twice() {
        let dir = tempfile::tempdir().unwrap();
        let still = Data { root: dir.path().join("none"), seed: 4 };
        let disk = dir.path().join("a/shard-0.data-0");
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let whole: Vec<u8> =
            [vec![0; SIZE], still.name(1, 5, 1).content(), still.name(3, 2, 1).content()].concat();
        std::fs::write(&disk, &whole).unwrap();
        let (mut dice, mut harmed) = (Dice::new(1), Harmed::new());
        for count in 1..=2 {
            assert!(harm(dir.path(), &still, &mut dice, &mut harmed).unwrap().is_some());
            let now = std::fs::read(&disk).unwrap();
            let changed = whole.chunks(SIZE).zip(now.chunks(SIZE)).filter(|(a, b)| a != b).count();
            assert_eq!((changed, harmed.len(), now.len()), (count, count, whole.len()));
        }
        assert_eq!(harm(dir.path(), &still, &mut dice, &mut harmed).unwrap(), None);
    }
}
