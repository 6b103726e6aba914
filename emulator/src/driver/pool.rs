//! Memory pools. All take from the same memory; a pool only keeps its attributes.

use std::sync::Mutex;

use super::abi::{Handle, Host, In, Out, export};
use super::state::driver;
use super::status::{Result, Status};
use super::table::lock;

const RELEASE_THRESHOLD: u32 = 4;
const RESERVED: [u32; 2] = [5, 6];
const USED: u32 = 7;
const USED_HIGH: u32 = 8;

/// A pool.
pub struct Pool {
    /// Its own.
    pub handle: Handle,
    reuse: Mutex<[i32; 3]>,
    threshold: Mutex<u64>,
    high: Mutex<u64>,
}

impl Pool {
    /// A pool with the driver's defaults.
    pub fn new(handle: Handle) -> Pool {
        Pool { handle, reuse: Mutex::new([1; 3]), threshold: Mutex::default(), high: Mutex::default() }
    }

    /// Remembers the most that was used.
    pub fn note(&self, used: u64) {
        let mut high = lock(&self.high);
        *high = used.max(*high);
    }
}

/// A pool's attribute is 32 or 64 bits wide, depending on which.
fn attribute(pool: &Pool, which: u32) -> Result<std::result::Result<i32, u64>> {
    let used = driver()?.device.used_of(pool.handle);
    Ok(match which {
        1..=3 => Ok(lock(&pool.reuse)[which as usize - 1]),
        RELEASE_THRESHOLD => Err(*lock(&pool.threshold)),
        USED => Err(used),
        USED_HIGH => Err(used.max(*lock(&pool.high))),
        _ if which == RESERVED[0] => Err(used),
        _ if which == RESERVED[1] => Err(used.max(*lock(&pool.high))),
        _ => return Err(Status::INVALID_VALUE),
    })
}

/// Looks at the two 32-bit numbers in front of `CUmemPoolProps`: allocation type, handle types; then the
/// location's type and device.
fn check_properties(properties: In<[u32; 4]>) -> Result {
    match properties.at(0)? {
        [1, 0, 1, 0] => Ok(()),
        [1, 0, 1, _] => Err(Status::INVALID_DEVICE),
        [1, 0, ..] => Err(Status::NOT_SUPPORTED),
        [1, ..] => Err(Status::NOT_SUPPORTED),
        _ => Err(Status::INVALID_VALUE),
    }
}

export! {
    /// A pool on the device.
    fn cuMemPoolCreate(pool: Out<Handle>, properties: In<[u32; 4]>) {
        let driver = driver()?;
        check_properties(properties)?;
        if !pool.wanted() {
            return Err(Status::INVALID_VALUE);
        }
        pool.set(driver.pools.add(Pool::new).handle)
    }

    /// Ends a pool; its allocations live on.
    fn cuMemPoolDestroy(pool: Handle) {
        let driver = driver()?;
        if pool == driver.device.default_pool {
            return Err(Status::INVALID_VALUE);
        }
        driver.pools.remove(pool)?;
        let mut current = lock(&driver.device.pool);
        if *current == pool {
            *current = driver.device.default_pool;
        }
        Ok(())
    }

    /// Gives unused memory back: there is none.
    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        driver()?.pools.get(pool).map(|_| ())
    }

    /// Reads an attribute.
    fn cuMemPoolGetAttribute(pool: Handle, which: u32, value: Out<i32>) {
        let pool = driver()?.pools.get(pool)?;
        match attribute(&pool, which)? {
            Ok(narrow) => value.set(narrow),
            Err(wide) => value.cast::<u64>().set(wide),
        }
    }

    /// Sets an attribute.
    fn cuMemPoolSetAttribute(pool: Handle, which: u32, value: Out<i32>) {
        let pool = driver()?.pools.get(pool)?;
        match which {
            1..=3 => lock(&pool.reuse)[which as usize - 1] = value.get()?,
            RELEASE_THRESHOLD => *lock(&pool.threshold) = value.cast::<u64>().get()?,
            USED_HIGH => *lock(&pool.high) = 0,
            _ if which == RESERVED[1] => *lock(&pool.high) = 0,
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    }

    /// The only device may always use it.
    fn cuMemPoolSetAccess(pool: Handle, list: Host, count: usize) {
        driver()?.pools.get(pool)?;
        if list.is_null() && count > 0 { Err(Status::INVALID_VALUE) } else { Ok(()) }
    }

    /// Reading and writing.
    fn cuMemPoolGetAccess(flags: Out<u32>, pool: Handle, location: In<[u32; 2]>) {
        driver()?.pools.get(pool)?;
        let [kind, device] = location.at(0)?;
        if kind != 1 || device != 0 {
            return Err(Status::INVALID_VALUE);
        }
        flags.set(3)
    }
}
