//! Reserved address space: pages exist once they are touched.

use std::io;

/// Where device memory is put if nothing is there: the same addresses in every run.
const DEVICE_ADDRESSES: usize = 0x0200_0000_0000;
const PAGE: u64 = 4096;

/// A range of addresses of this process, zero until written.
pub struct Region {
    start: u64,
    bytes: u64,
}

impl Region {
    /// `bytes` zeros at any address.
    pub fn new(bytes: u64) -> io::Result<Region> {
        Self::map(bytes, 0)
    }

    /// `bytes` zeros, at the usual place of device memory if that is free.
    pub fn at_device_addresses(bytes: u64) -> io::Result<Region> {
        Self::map(bytes, DEVICE_ADDRESSES)
    }

    fn map(bytes: u64, hint: usize) -> io::Result<Region> {
        let length = usize::try_from(bytes.next_multiple_of(PAGE)).map_err(io::Error::other)?;
        // SAFETY: a new anonymous mapping; without MAP_FIXED the hint can't replace another one.
        let pointer = unsafe {
            libc::mmap(
                hint as *mut libc::c_void,
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if pointer == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Region { start: pointer as u64, bytes: length as u64 })
    }

    /// First address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// One past the last address.
    pub fn end(&self) -> u64 {
        self.start + self.bytes
    }

    /// Gives the whole pages in a range back: they read as zero again.
    pub fn forget(&self, address: u64, bytes: u64) {
        let first = address.next_multiple_of(PAGE);
        let end = (address + bytes) / PAGE * PAGE;
        if first < end && first >= self.start && end <= self.end() {
            // SAFETY: whole pages inside this mapping, which is anonymous.
            unsafe { libc::madvise(first as *mut libc::c_void, (end - first) as usize, libc::MADV_DONTNEED) };
        }
    }

    /// Everything reads as zero again.
    pub fn forget_all(&self) {
        self.forget(self.start, self.bytes);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.bytes as usize) };
    }
}
