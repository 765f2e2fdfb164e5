//! The system's Kerberos: ten functions of GSSAPI (RFC 2743, RFC 2744) in MIT's library, which is
//! loaded when a keytab asks for it. So bitsd is built without its headers, and runs without it.
//!
//! What is told here as C is as `gssapi/gssapi.h` and `gssapi/gssapi_ext.h` of MIT Kerberos 1.20
//! have it. Heimdal's library has another name, and is not taken.
//!
//! What strangers send has passed [`crate::http::spnego`] before it comes here. The credential
//! takes Kerberos only, by itself and within SPNEGO, whatever other mechanisms the system has.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags};

use super::fault;
use crate::auth::keytab::Keytab;

/// The library; its number changes with its interface.
const LIBRARY: &str = "libgssapi_krb5.so.2";
/// Where the system does not have it.
const PACKAGES: &str = "it comes with the package libgssapi-krb5-2 (Debian, Ubuntu), krb5-libs (Fedora, RHEL) or krb5 \
     (Arch, SUSE)";

/// What came of a token.
pub enum Said {
    /// Who sends it.
    Proven {
        /// As the library displays it.
        principal: String,
        /// Our own proof; may be empty.
        answer: Vec<u8>,
        /// The client has bound it to the connection.
        is_bound: bool,
    },
    /// More is to come.
    GoesOn {
        /// What it goes on with.
        context: Context,
        /// For the client.
        answer: Vec<u8>,
    },
    /// It is not believed.
    Refused {
        /// The minor status (RFC 2744, 3.9.1), or 0 where there is none.
        minor: Status,
        /// The library's words.
        why: String,
        /// For the client; may be empty.
        answer: Vec<u8>,
    },
    /// Nobody can say: the fault is on this side.
    Unusable(String),
}

// As in the headers.

#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Oid {
    length: u32,
    elements: *const c_void,
}

#[repr(C)]
struct OidSet {
    count: usize,
    elements: *const Oid,
}

#[repr(C)]
struct KeyValue {
    key: *const c_char,
    value: *const c_char,
}

#[repr(C)]
struct KeyValueSet {
    count: u32,
    elements: *const KeyValue,
}

#[repr(C)]
struct Bindings {
    initiator_address_type: u32,
    initiator_address: Buffer,
    acceptor_address_type: u32,
    acceptor_address: Buffer,
    application_data: Buffer,
}

type Handle = *mut c_void;
type Status = u32;

type AcquireCredFrom = unsafe extern "C" fn(
    *mut u32,
    Handle,
    u32,
    *const OidSet,
    c_int,
    *const KeyValueSet,
    *mut Handle,
    *mut *mut OidSet,
    *mut u32,
) -> Status;
type SetNegMechs = unsafe extern "C" fn(*mut u32, Handle, *const OidSet) -> Status;
type AcceptSecContext = unsafe extern "C" fn(
    *mut u32,
    *mut Handle,
    Handle,
    *const Buffer,
    *const Bindings,
    *mut Handle,
    *mut *mut Oid,
    *mut Buffer,
    *mut u32,
    *mut u32,
    *mut Handle,
) -> Status;
type DisplayName = unsafe extern "C" fn(*mut u32, Handle, *mut Buffer, *mut *mut Oid) -> Status;
type DisplayStatus =
    unsafe extern "C" fn(*mut u32, u32, c_int, *const Oid, *mut u32, *mut Buffer) -> Status;
type Release = unsafe extern "C" fn(*mut u32, *mut Handle) -> Status;
type ReleaseBuffer = unsafe extern "C" fn(*mut u32, *mut Buffer) -> Status;
type DeleteSecContext = unsafe extern "C" fn(*mut u32, *mut Handle, *mut Buffer) -> Status;

/// The functions, as long as the process lives: the library is never let go of.
pub struct Library {
    acquire_cred_from: AcquireCredFrom,
    set_neg_mechs: SetNegMechs,
    accept_sec_context: AcceptSecContext,
    display_name: DisplayName,
    display_status: DisplayStatus,
    release_cred: Release,
    release_name: Release,
    release_buffer: ReleaseBuffer,
    delete_sec_context: DeleteSecContext,
}

/// The library, loaded if it is not yet.
///
/// # Errors
/// Why it cannot be, and where it comes from.
pub fn library() -> Result<&'static Library, String> {
    static LOADED: OnceLock<Library> = OnceLock::new();
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let loaded = Library::load().map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        let why = why.unwrap_or_else(|| error.to_string());
        format!("{LIBRARY} cannot be loaded ({why}): {PACKAGES}")
    })?;
    Ok(LOADED.get_or_init(|| loaded))
}

impl Library {
    fn load() -> Result<Self, libloading::Error> {
        // SAFETY: its initialisers do what those of any library do that a program is linked with.
        let library = unsafe { libloading::Library::new(LIBRARY) }?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the type of the field is that of the function in the header of MIT's
                // library, which is what goes by this name. The pointer outlives the symbol, since
                // the library is never closed.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }?
            };
        }
        let loaded = Self {
            acquire_cred_from: function!("gss_acquire_cred_from"),
            set_neg_mechs: function!("gss_set_neg_mechs"),
            accept_sec_context: function!("gss_accept_sec_context"),
            display_name: function!("gss_display_name"),
            display_status: function!("gss_display_status"),
            release_cred: function!("gss_release_cred"),
            release_name: function!("gss_release_name"),
            release_buffer: function!("gss_release_buffer"),
            delete_sec_context: function!("gss_delete_sec_context"),
        };
        std::mem::forget(library);
        Ok(loaded)
    }

    /// The words for a status: of Kerberos where it has some, else of GSSAPI. Kerberos has a code
    /// and says "Success" where GSSAPI itself has found the fault, as in channel bindings.
    fn words(&self, major: Status, minor: u32) -> String {
        let of_kerberos = match minor {
            0 => None,
            minor => self.display(minor, STATUS_OF_MECHANISM),
        };
        of_kerberos
            .filter(|words| !matches!(words.as_str(), "" | "Success" | "No error"))
            .or_else(|| self.display(major, STATUS_OF_GSS))
            .unwrap_or_else(|| format!("status {major:#x}, {minor}"))
    }

    fn display(&self, code: u32, kind: c_int) -> Option<String> {
        let (mut ignored, mut more) = (0, 0);
        let mut words = LibraryBuffer::empty(self);
        // SAFETY: all pointers are to live memory of their types; the OID is a constant. The buffer
        // is empty, and released when it is dropped. Of several messages the first says it.
        let status = unsafe {
            (self.display_status)(&mut ignored, code, kind, &KERBEROS, &mut more, &mut words.0)
        };
        (status & ERRORS == 0).then(|| in_short(&words.text()))
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LIBRARY)
    }
}

/// A buffer that the library fills, and that is given back to it.
struct LibraryBuffer<'l>(Buffer, &'l Library);

impl<'l> LibraryBuffer<'l> {
    fn empty(library: &'l Library) -> Self {
        let (length, value) = (0, ptr::null_mut());
        Self(Buffer { length, value }, library)
    }

    fn bytes(&self) -> &[u8] {
        if self.0.value.is_null() {
            return &[];
        }
        // SAFETY: the library has put so many bytes there, and they stay until it is dropped.
        unsafe { std::slice::from_raw_parts(self.0.value.cast(), self.0.length) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

impl Drop for LibraryBuffer<'_> {
    fn drop(&mut self) {
        // SAFETY: it is empty, or holds what the library has put there, which is released once.
        unsafe { (self.1.release_buffer)(&mut 0, &mut self.0) };
    }
}

/// A conversation that goes on.
#[derive(Debug)]
pub struct Context {
    handle: Handle,
    library: &'static Library,
}

// SAFETY: MIT's contexts have no tie to a thread; it is used by one at a time.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: it is a context of this library, and deleted once.
            unsafe { (self.library.delete_sec_context)(&mut 0, &mut self.handle, ptr::null_mut()) };
        }
    }
}

/// What takes tickets for the keys of one keytab.
#[derive(Debug)]
pub struct Acceptor {
    credential: Handle,
    library: &'static Library,
    /// Where the library reads the keys, each time: memory that nobody can change any more. So they
    /// are those of the last reload, also if the file is gone or half written.
    _keys: OwnedFd,
}

// SAFETY: MIT's credentials may be used by several threads at once: each call takes the lock of the
// credential.
unsafe impl Send for Acceptor {}
// SAFETY: as above.
unsafe impl Sync for Acceptor {}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // SAFETY: it is a credential of this library, and released once.
        unsafe { (self.library.release_cred)(&mut 0, &mut self.credential) };
    }
}

impl Acceptor {
    /// For all keys of a keytab.
    ///
    /// # Errors
    /// What the library has against it.
    pub fn new(library: &'static Library, keytab: &Keytab) -> Result<Self, String> {
        let keys = in_memory(keytab.content()).map_err(|error| error.to_string())?;
        let name = format!("FILE:/proc/self/fd/{}", keys.as_raw_fd());
        let name = CString::new(name).expect("digits and letters");
        let store = KeyValue {
            key: c"keytab".as_ptr(),
            value: name.as_ptr(),
        };
        let store = KeyValueSet {
            count: 1,
            elements: &raw const store,
        };
        let (mut minor, mut credential) = (0, ptr::null_mut());
        // SAFETY: all pointers are to live memory of their types, which the library copies; those
        // that may be null are. No name: any key will do.
        let status = unsafe {
            (library.acquire_cred_from)(
                &mut minor,
                ptr::null_mut(),
                FOR_EVER,
                &MECHANISMS.set(),
                ACCEPTS,
                &raw const store,
                &mut credential,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if status & ERRORS != 0 {
            return Err(library.words(status, minor));
        }
        let acceptor = Self {
            credential,
            library,
            _keys: keys,
        };
        // SAFETY: as above. Within SPNEGO nothing but Kerberos is taken from now on.
        let status =
            unsafe { (library.set_neg_mechs)(&mut minor, credential, &KERBEROS_ALONE.set()) };
        match status & ERRORS {
            0 => Ok(acceptor),
            _ => Err(library.words(status, minor)),
        }
    }

    /// Looks at a token, after those that `begun` has seen. `end_point` is what it must be bound to
    /// if it is to anything (`tls-server-end-point:` and a digest). Takes a millisecond: the
    /// library writes down each ticket that it has seen.
    pub fn accept(&self, begun: Option<Context>, token: &[u8], end_point: Option<&[u8]>) -> Said {
        let library = self.library;
        let handle = ptr::null_mut();
        let mut context = begun.unwrap_or(Context { handle, library });
        let bindings = end_point.map(|data| Bindings {
            initiator_address_type: 0,
            initiator_address: buffer(&[]),
            acceptor_address_type: 0,
            acceptor_address: buffer(&[]),
            application_data: buffer(data),
        });
        let bindings = bindings.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (mut minor, mut flags, mut client) = (0, 0, ptr::null_mut());
        let mut answer = LibraryBuffer::empty(library);
        // SAFETY: all pointers are to live memory of their types, or null where they may be: of the
        // mechanism, the time and what is delegated we want to hear nothing. Input is only read.
        let status = unsafe {
            (library.accept_sec_context)(
                &mut minor,
                &mut context.handle,
                self.credential,
                &buffer(token),
                bindings,
                &mut client,
                ptr::null_mut(),
                &mut answer.0,
                &mut flags,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let client = Name(client, library);
        let answer = answer.bytes().to_vec();
        if status & ERRORS != 0 {
            let why = library.words(status, minor);
            return match fault::is_ours(status & ERRORS, &why) {
                true => Said::Unusable(why),
                false => Said::Refused { minor, why, answer },
            };
        }
        if status & CONTINUE_NEEDED != 0 {
            return Said::GoesOn { context, answer };
        }
        match client.display() {
            Ok(principal) => Said::Proven {
                principal,
                answer,
                is_bound: flags & CHANNEL_BOUND != 0,
            },
            Err(why) => Said::Refused {
                minor: 0,
                why,
                answer,
            },
        }
    }
}

/// A name of the library's.
struct Name(Handle, &'static Library);

impl Name {
    fn display(&self) -> Result<String, String> {
        if self.0.is_null() {
            return Err("the ticket names nobody".to_owned());
        }
        let (mut minor, mut text) = (0, LibraryBuffer::empty(self.1));
        // SAFETY: the name is the library's; the buffer is empty, and released when it is dropped.
        let status =
            unsafe { (self.1.display_name)(&mut minor, self.0, &mut text.0, ptr::null_mut()) };
        match status & ERRORS {
            0 => String::from_utf8(text.bytes().to_vec())
                .map_err(|_| "the name in the ticket is not UTF-8".to_owned()),
            _ => Err(self.1.words(status, minor)),
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is a name of this library, and released once.
            unsafe { (self.1.release_name)(&mut 0, &mut self.0) };
        }
    }
}

/// Memory with this content that can be opened by its descriptor and not be changed.
fn in_memory(content: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("keytab", flags)?);
    file.write_all(content)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// For input only: nobody writes there.
fn buffer(bytes: &[u8]) -> Buffer {
    Buffer {
        length: bytes.len(),
        value: bytes.as_ptr().cast_mut().cast(),
    }
}

/// It may hold what a stranger has written into a ticket.
fn in_short(words: &str) -> String {
    words.chars().take(WORDS_CHARS_MAX).collect()
}

const WORDS_CHARS_MAX: usize = 300;

/// Mechanisms, of which the library takes pointers.
struct Mechanisms<const N: usize>([Oid; N]);

// SAFETY: the pointers are to constants.
unsafe impl<const N: usize> Sync for Mechanisms<N> {}

impl<const N: usize> Mechanisms<N> {
    fn set(&'static self) -> OidSet {
        OidSet {
            count: N,
            elements: self.0.as_ptr(),
        }
    }
}

const fn oid(bytes: &'static [u8]) -> Oid {
    #[allow(clippy::cast_possible_truncation, reason = "constants of a few bytes")]
    Oid {
        length: bytes.len() as u32,
        elements: bytes.as_ptr().cast(),
    }
}

/// 1.2.840.113554.1.2.2
const KERBEROS: Oid = oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02");
/// 1.3.6.1.5.5.2
const SPNEGO: Oid = oid(b"\x2b\x06\x01\x05\x05\x02");
static MECHANISMS: Mechanisms<2> = Mechanisms([KERBEROS, SPNEGO]);
static KERBEROS_ALONE: Mechanisms<1> = Mechanisms([KERBEROS]);

// Of gssapi.h.
const ACCEPTS: c_int = 2;
const FOR_EVER: u32 = u32::MAX;
const STATUS_OF_GSS: c_int = 1;
const STATUS_OF_MECHANISM: c_int = 2;
const ERRORS: Status = 0xffff_0000;
const CONTINUE_NEEDED: Status = 1;
/// GSS_C_CHANNEL_BOUND_FLAG, since 1.19.
const CHANNEL_BOUND: u32 = 0x800;
