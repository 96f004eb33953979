//! The real table: RocksDB with its write-ahead log off. Durability comes from `flush`; the owner's log covers
//! what was written since.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBIterator, Direction,
    IteratorMode, LruCacheOptions, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{Batch, Pair, Result, Table, TableError};

/// See the module.
pub struct RocksTable {
    db: DB,
    name: String,
    writing: WriteOptions,
}

/// Sizes that matter for memory.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Cache of blocks read, bytes.
    pub cache_bytes: usize,
    /// Write buffer before it becomes a file, bytes.
    pub write_buffer_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, write_buffer_bytes: 32 << 20 }
    }
}

/// The cache has 16 shards, each with a lock of its own.
const CACHE_SHARD_BITS: i32 = 4;
/// A piece of a file's index or filter.
const METADATA_BLOCK_BYTES: usize = 4096;

/// A process that is being killed holds its lock until the kernel has taken it apart: its successor waits for that, at
/// most so long.
const PREDECESSOR: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn open_when_free(options: &Options, path: &Path) -> std::result::Result<DB, rocksdb::Error> {
    let until = Instant::now() + PREDECESSOR;
    loop {
        match DB::open(options, path) {
            Err(error) if is_locked_by_another(&error) && Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN)
            }
            other => return other,
        }
    }
}

/// RocksDB tells it by its text only.
fn is_locked_by_another(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("While lock file") && text.contains("temporarily unavailable")
}

impl RocksTable {
    /// Opens or makes a table in the directory `path`.
    pub fn open(path: impl AsRef<Path>, sizes: Sizes) -> Result<Arc<Self>> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let fail = |cause: String| TableError { table: name.clone(), cause };
        std::fs::create_dir_all(path).map_err(|error| fail(error.to_string()))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(sizes.write_buffer_bytes);
        options.set_max_write_buffer_number(4);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(512);
        // Without a log, files appear in the order of their flushes: what survives is a prefix.
        options.set_atomic_flush(true);
        let mut blocks = BlockBasedOptions::default();
        let mut cache = LruCacheOptions::default();
        cache.set_capacity(sizes.cache_bytes);
        cache.set_num_shard_bits(CACHE_SHARD_BITS);
        blocks.set_block_cache(&Cache::new_lru_cache_opts(&cache));
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        // In pieces of a few KiB: the filter of a whole file passes the size of a shard of the cache from about 300,000 inodes on. It is then never kept, and each
        // question reads and hashes a megabyte.
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
        blocks.set_pin_top_level_index_and_filter(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        options.set_block_based_table_factory(&blocks);
        let db = open_when_free(&options, path).map_err(|error| fail(error.to_string()))?;
        let mut writing = WriteOptions::default();
        writing.disable_wal(true);
        Ok(Arc::new(Self { db, name, writing }))
    }

    fn fail(&self, error: &rocksdb::Error) -> TableError {
        TableError { table: self.name.clone(), cause: error.to_string() }
    }

    fn collect(&self, iterator: DBIterator<'_>, limit: usize) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for pair in iterator.take(limit) {
            let (key, value) = pair.map_err(|error| self.fail(&error))?;
            pairs.push((key.into_vec(), value.into_vec()));
        }
        Ok(pairs)
    }
}

/// The table at one moment.
struct Moment<'t> {
    table: &'t RocksTable,
    snapshot: rocksdb::Snapshot<'t>,
}

impl super::Reader for Moment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.snapshot.get(key).map_err(|error| self.table.fail(&error))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let Some(options) = bounded(from, to) else { return Ok(Vec::new()) };
        let mode = IteratorMode::From(from, Direction::Forward);
        self.table.collect(self.snapshot.iterator_opt(mode, options), limit)
    }
}

/// `None`: nothing lies between.
fn bounded(from: &[u8], to: &[u8]) -> Option<ReadOptions> {
    let mut options = ReadOptions::default();
    if !to.is_empty() {
        if from >= to {
            return None;
        }
        options.set_iterate_upper_bound(to);
    }
    Some(options)
}

impl Table for RocksTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get(key).map_err(|error| self.fail(&error))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let Some(options) = bounded(from, to) else { return Ok(Vec::new()) };
        self.collect(self.db.iterator_opt(IteratorMode::From(from, Direction::Forward), options), limit)
    }

    fn write(&self, batch: Batch) -> Result<()> {
        let mut out = WriteBatch::default();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => out.put(key, value),
                None => out.delete(key),
            }
        }
        self.db.write_opt(out, &self.writing).map_err(|error| self.fail(&error))
    }

    fn flush(&self) -> Result<()> {
        self.db.flush().map_err(|error| self.fail(&error))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<()> {
        const CHUNK: usize = 4096;
        let mut from = from.to_vec();
        loop {
            let pairs = Table::scan(self, &from, to, CHUNK)?;
            let full = pairs.len() == CHUNK;
            let mut batch = Batch::default();
            for (key, _) in pairs {
                from.clone_from(&key);
                batch.delete(key);
            }
            self.write(batch)?;
            if !full {
                return Ok(());
            }
        }
    }

    fn at_one_moment(&self, work: &mut dyn FnMut(&dyn super::Reader)) {
        work(&Moment { table: self, snapshot: self.db.snapshot() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_contract_and_survives_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let table = RocksTable::open(dir.path(), Sizes::default()).unwrap();
        super::super::contract(&*table);
        table.flush().unwrap();
        drop(table);
        let table = RocksTable::open(dir.path(), Sizes::default()).unwrap();
        assert_eq!(table.get(b"c").unwrap().as_deref(), Some(&b"<c>"[..]));
    }

    /// A directory with 300,000 files made each lookup read more than a megabyte: the filter of the file, which no shard of the cache could hold.
    #[test]
    fn a_question_to_a_large_table_reads_little() {
        use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
        const KEYS: u32 = 600_000;
        let dir = tempfile::tempdir().unwrap();
        // A sixteenth of everything: of the cache, of the keys, of what a filter may take.
        let sizes = Sizes { cache_bytes: 4 << 20, ..Sizes::default() };
        let table = RocksTable::open(dir.path(), sizes).unwrap();
        for chunk in 0..KEYS / 1000 {
            let mut batch = WriteBatch::default();
            (0..1000).for_each(|at| batch.put((chunk * 1000 + at).to_be_bytes(), [7; 16]));
            table.db.write_opt(batch, &table.writing).unwrap();
        }
        table.flush().unwrap();
        table.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut context = PerfContext::default();
        context.reset();
        for at in 0..2000u32 {
            let key = at.wrapping_mul(2_654_435_761) % KEYS;
            assert!(table.get(&key.to_be_bytes()).unwrap().is_some());
        }
        let each = context.metric(PerfMetric::BlockReadByte) / 2000;
        assert!(each < 16 << 10, "{each} bytes are read for one key");
    }
}
