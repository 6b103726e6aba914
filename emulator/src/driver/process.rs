//! Names and functions of the driver.

use std::ffi::{CStr, CString, c_char, c_void};

use super::abi::{Host, Out, Text, export};
use super::state::VERSION;
use super::status::{Status, describe};

const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// Functions whose newest form isn't `_v2`, and the version that brought each: the form for a program is
/// the last one that its version knows.
const FORMS: [(&str, &[(i32, &str)]); 9] = [
    ("cuCtxCreate", &[(0, "cuCtxCreate_v2"), (11040, "cuCtxCreate_v3"), (12050, "cuCtxCreate_v4")]),
    ("cuMemAdvise", &[(0, "cuMemAdvise"), (12020, "cuMemAdvise_v2")]),
    ("cuMemPrefetchAsync", &[(0, "cuMemPrefetchAsync"), (12020, "cuMemPrefetchAsync_v2")]),
    ("cuEventElapsedTime", &[(0, "cuEventElapsedTime"), (12080, "cuEventElapsedTime_v2")]),
    ("cuStreamGetCtx", &[(0, "cuStreamGetCtx"), (12050, "cuStreamGetCtx_v2")]),
    ("cuStreamGetCaptureInfo", &[(0, "cuStreamGetCaptureInfo_v2"), (12030, "cuStreamGetCaptureInfo_v3")]),
    ("cuGraphGetEdges", &[(0, "cuGraphGetEdges"), (12030, "cuGraphGetEdges_v2")]),
    ("cuGraphInstantiate", &[(0, "cuGraphInstantiateWithFlags")]),
    ("cuDeviceGetUuid", &[(0, "cuDeviceGetUuid"), (11040, "cuDeviceGetUuid_v2")]),
];

fn address(name: &str) -> Option<*mut c_void> {
    let name = CString::new(name).ok()?;
    // SAFETY: dladdr only reads; the name it gives stays as long as this library.
    let own = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(cuGetProcAddress_v2 as *const c_void, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        libc::dlopen(info.dli_fname, libc::RTLD_NOLOAD | libc::RTLD_LAZY)
    };
    if own.is_null() {
        return None;
    }
    // SAFETY: an open library and a C string; closing undoes the count of dlopen, the library stays loaded.
    let found = unsafe {
        let found = libc::dlsym(own, name.as_ptr());
        libc::dlclose(own);
        found
    };
    (!found.is_null()).then_some(found)
}

fn resolve(name: &str, version: i32) -> Option<*mut c_void> {
    if !name.starts_with("cu") || version > VERSION {
        return None;
    }
    if let Some((_, forms)) = FORMS.iter().find(|(base, _)| *base == name) {
        let (_, form) = forms.iter().rev().find(|(since, _)| *since <= version)?;
        return address(form);
    }
    address(&format!("{name}_v2")).or_else(|| address(name))
}

export! {
    /// The address of a function, in the form that a version of CUDA knows.
    fn cuGetProcAddress_v2(
        symbol: Text,
        function: Out<*mut c_void>,
        version: i32,
        _flags: u64,
        result: Out<u32>,
    ) {
        let found = resolve(&symbol.text()?, version);
        function.set(found.unwrap_or(std::ptr::null_mut()))?;
        result.set_if_wanted(if found.is_some() { FOUND } else { NOT_FOUND });
        found.map(|_| ()).ok_or(Status::NOT_FOUND)
    }

    /// The same without the result.
    fn cuGetProcAddress(symbol: Text, function: Out<*mut c_void>, version: i32, _flags: u64) {
        let found = resolve(&symbol.text()?, version);
        function.set(found.unwrap_or(std::ptr::null_mut()))?;
        found.map(|_| ()).ok_or(Status::NOT_FOUND)
    }

    /// Tables that only NVIDIA knows.
    fn cuGetExportTable(_table: Out<Host>, _identity: Host) {
        Err(Status::NOT_SUPPORTED)
    }

    /// A code's name.
    fn cuGetErrorName(code: u32, name: Out<*const c_char>) {
        text(name, describe(code).map(|(name, _)| name))
    }

    /// A code's description.
    fn cuGetErrorString(code: u32, description: Out<*const c_char>) {
        text(description, describe(code).map(|(_, description)| description))
    }
}

fn text(to: Out<*const c_char>, text: Option<&'static CStr>) -> super::status::Result {
    to.set(text.map_or(std::ptr::null(), CStr::as_ptr))?;
    text.map(|_| ()).ok_or(Status::INVALID_VALUE)
}
