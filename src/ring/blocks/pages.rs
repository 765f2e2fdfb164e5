//! Memory in whole pages: the kernel pins whole pages, and O_DIRECT asks for it.

use std::alloc::Layout;
use std::ptr::NonNull;

use tokio_uring::buf::{IoBuf, IoBufMut};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Zeroed, page-aligned memory of a fixed length.
pub struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    /// Allocates `bytes`, a positive multiple of the page size.
    pub fn new(bytes: usize) -> Self {
        Self::try_new(bytes).unwrap_or_else(|| std::alloc::handle_alloc_error(layout(bytes)))
    }

    /// The same; `None` if there is not enough memory.
    pub fn try_new(bytes: usize) -> Option<Self> {
        let layout = layout(bytes);
        // SAFETY: the layout has a size that is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start)?;
        Some(Self { start, layout })
    }

    /// So many at once, or none.
    pub fn several(count: usize, bytes: usize) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        all.try_reserve_exact(count).ok()?;
        for _ in 0..count {
            all.push(Self::try_new(bytes)?);
        }
        Some(all)
    }

    /// All of it.
    pub fn memory(&self) -> &[u8] {
        // SAFETY: `start` points to `layout.size()` initialised bytes that live as long as `self`
        // and are borrowed with it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    /// All of it, to be written to.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the borrow the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

fn layout(bytes: usize) -> Layout {
    assert!(bytes > 0 && bytes.is_multiple_of(PAGE_BYTES), "whole pages");
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a few MiB")
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `try_new` with this very layout, and freed once.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: the pointer is stable (the memory moves with nothing), valid for `bytes_total` bytes as
// long as the value lives, and all of them are initialised from the start.
unsafe impl IoBuf for Pages {
    fn stable_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.layout.size()
    }

    fn bytes_total(&self) -> usize {
        self.layout.size()
    }
}

// SAFETY: as for `IoBuf`; `set_init` has nothing to remember, since all bytes are always
// initialised.
unsafe impl IoBufMut for Pages {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    unsafe fn set_init(&mut self, _bytes: usize) {}
}
