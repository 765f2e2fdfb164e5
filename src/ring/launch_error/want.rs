//! What is said where a start wants something: memory, or a folder that is empty.

use std::fmt::Display;

use crate::config::quantity;
use crate::ring::memory::MemoryLimit;

/// There is not the memory that a start needs.
pub fn write_memory(f: &mut std::fmt::Formatter<'_>, needed: u64) -> std::fmt::Result {
    write!(
        f,
        "{} of memory are needed before the first connection, and the process cannot have them: raise the limit \
         (systemd: LimitAS=, LimitDATA=; a shell: ulimit -v, ulimit -d), or lower cores, \
         limits.body_blocks_per_shard or limits.block_bytes",
        quantity::render_size(needed)
    )
}

/// Body blocks are more than there is memory for.
pub fn write_too_many_blocks(
    f: &mut std::fmt::Formatter<'_>,
    limit: &MemoryLimit,
    needed: u64,
) -> std::fmt::Result {
    write!(
        f,
        "the body blocks of all cores take {} of memory, and there are {} ({}): lower \
         limits.body_blocks_per_shard, limits.block_bytes or cores",
        quantity::render_size(needed),
        quantity::render_size(limit.bytes),
        limit.set_by
    )
}

/// Body blocks did not come in time.
pub fn write_late_blocks(f: &mut std::fmt::Formatter<'_>, bytes: u64) -> std::fmt::Result {
    write!(
        f,
        "a core did not get the memory of its body blocks ({} for each core): lower \
         limits.body_blocks_per_shard or limits.block_bytes",
        quantity::render_size(bytes)
    )
}

/// Of a folder that holds what is not the server's.
pub(super) fn of_an_empty_folder(path: &impl Display, found: &str, us: &impl Display) -> String {
    format!(
        "{path} holds other things than a server keeps in its work directory ({found}), and no server has used it: \
         name an empty folder (`install -d -m 700 -o {us} DIR` and work_dir = \"DIR\"), or move away what stands in \
         this one if it is to be the server's"
    )
}
