//! What one Dovecot of a test is like: its options and the dovecot.conf made of them.
use super::dovecot24;
use super::lab::{GID, Lab, UID};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The hashed layout that Dovecot's documentation advises.
pub const HASHED: &str = "%2.256Nu/%u";

/// The mailbox formats that work with a list index outside the mail store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One file a message.
    Sdbox,
    /// Many messages a file.
    Mdbox,
    /// One file a message, flags in its name.
    Maildir,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sdbox, Self::Mdbox, Self::Maildir];

    fn name(self) -> &'static str {
        match self {
            Self::Sdbox => "sdbox",
            Self::Mdbox => "mdbox",
            Self::Maildir => "maildir",
        }
    }
}

/// Whose the mail is.
#[derive(Clone, Debug)]
pub enum Users {
    /// Any name logs in; all mail belongs to [`UID`].
    Vmail,
    /// These (name, uid, gid) and no others.
    Each(Vec<(String, u32, u32)>),
    /// Those of a passwd-file with these lines.
    Passwd(Vec<String>),
    /// Any name, with these fields that a static userdb gives of it.
    Static(Vec<(&'static str, String)>),
}

/// The options of one Dovecot.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) dir: PathBuf,
    pub(super) users: Users,
    mail: PathBuf,
    index: String,
    listindex: Option<String>,
    volatile: Option<String>,
    format: Format,
    mmap: bool,
    lock_method: &'static str,
    settings: Vec<(String, String)>,
    raw: String,
}

impl Config {
    /// A host of this name in the lab, as a site would have it on NFS: no mmap, INDEX apart from the mail,
    /// very_dirty_syncs on. Its list index is in INDEX until [`Config::listindex`] says otherwise.
    pub fn new(lab: &Lab, host: &str) -> Self {
        let dir = lab.host(host);
        let settings = [
            // What is on the disk when the machine dies is not what these tests are about.
            ("mail_fsync", "never"),
            ("mailbox_list_index_very_dirty_syncs", "yes"),
        ];
        Self {
            users: Users::Vmail,
            mail: lab.mail(),
            index: format!("{}/{HASHED}", lab.index().display()),
            listindex: None,
            volatile: Some(format!("{}/volatile/%u", dir.display())),
            format: Format::Sdbox,
            mmap: false,
            lock_method: "fcntl",
            settings: settings.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            raw: String::new(),
            dir,
        }
    }

    /// The mailbox format.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The list index of a user is in this directory, hashed as documented.
    pub fn listindex(self, root: &Path) -> Self {
        let dir = format!("{}/{HASHED}", root.display());
        self.listindex_at(&dir)
    }

    /// The list index of a user is in this directory, given with Dovecot's variables.
    pub fn listindex_at(mut self, dir: &str) -> Self {
        self.listindex = Some(dir.to_owned());
        self
    }

    /// INDEX of a user, given with Dovecot's variables.
    pub fn index_at(mut self, dir: &str) -> Self {
        self.index = dir.to_owned();
        self
    }

    /// VOLATILEDIR of a user, given with Dovecot's variables.
    pub fn volatile_at(mut self, dir: &str) -> Self {
        self.volatile = Some(dir.to_owned());
        self
    }

    /// Shared memory maps of index files: `mmap_disable=no`.
    pub fn mmap(mut self, mmap: bool) -> Self {
        self.mmap = mmap;
        self
    }

    /// fcntl, flock or dotlock. Stock Dovecot does not make VOLATILEDIR for a dotlock, so there is none then.
    pub fn lock_method(mut self, method: &'static str) -> Self {
        self.lock_method = method;
        if method == "dotlock" {
            self.volatile = None;
        }
        self
    }

    /// `mailbox_list_index_include_inbox`.
    pub fn include_inbox(self, yes: bool) -> Self {
        self.set(
            "mailbox_list_index_include_inbox",
            if yes { "yes" } else { "no" },
        )
    }

    /// `mailbox_list_index_very_dirty_syncs`.
    pub fn very_dirty_syncs(self, yes: bool) -> Self {
        self.set(
            "mailbox_list_index_very_dirty_syncs",
            if yes { "yes" } else { "no" },
        )
    }

    /// Whose the mail is.
    pub fn users(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    /// Any other setting; the last one of a name counts.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Any other text for dovecot.conf.
    pub fn raw(mut self, text: &str) -> Self {
        self.raw.push_str(text);
        self.raw.push('\n');
        self
    }

    fn location(&self) -> String {
        let mut location = format!(
            "mail_location = {}:~/{}:INDEX={}",
            self.format.name(),
            self.format.name(),
            self.index
        );
        if let Some(dir) = &self.listindex {
            let _ = write!(location, ":LISTINDEX={dir}/dovecot.list.index");
        }
        if let Some(dir) = &self.volatile {
            let _ = write!(location, ":VOLATILEDIR={dir}");
        }
        location
    }

    fn location_2_4(&self) -> String {
        let mut location = format!(
            "mail_driver = {0}\nmail_path = %{{home}}/{0}\nmail_index_path = {1}\n",
            self.format.name(),
            dovecot24::path(&self.index)
        );
        if let Some(dir) = &self.listindex {
            let dir = dovecot24::path(dir);
            let _ = writeln!(
                location,
                "mailbox_list_index_prefix = {dir}/dovecot.list.index"
            );
        }
        if let Some(dir) = &self.volatile {
            let _ = writeln!(location, "mail_volatile_path = {}", dovecot24::path(dir));
        }
        location
    }

    /// The lines of the passwd-file, where each user has a uid of his own.
    pub(super) fn passwd(&self) -> String {
        let users = match &self.users {
            Users::Each(users) => users,
            Users::Passwd(lines) => return lines.join("\n") + "\n",
            Users::Vmail | Users::Static(_) => return String::new(),
        };
        let line = |(name, uid, gid): &(String, u32, u32)| {
            format!("{name}::{uid}:{gid}::{}/{name}\n", self.mail.display())
        };
        users.iter().map(line).collect()
    }

    fn userdb(&self) -> String {
        match self.users {
            Users::Vmail => format!(
                "driver = static\n args = uid={UID} gid={GID} home={}/{HASHED} allow_all_users=yes",
                self.mail.display()
            ),
            Users::Static(ref fields) => {
                let fields = fields.iter().map(|(key, value)| format!(" {key}={value}"));
                let fields: String = fields.collect();
                format!("driver = static\n args = uid={UID} gid={GID}{fields} allow_all_users=yes")
            }
            Users::Each(_) | Users::Passwd(_) => format!(
                "driver = passwd-file\n args = username_format=%u {}/passwd",
                self.dir.display()
            ),
        }
    }

    fn userdb_2_4(&self) -> String {
        match self.users {
            Users::Vmail => format!(
                "userdb static {{\n allow_all_users = yes\n fields {{\n  uid = {UID}\n  gid = {GID}\n  home = {}\n }}\n}}",
                dovecot24::path(&format!("{}/{HASHED}", self.mail.display()))
            ),
            Users::Static(ref fields) => {
                let line = |(key, value): &(&str, String)| {
                    format!("  {key} = {}\n", dovecot24::path(value))
                };
                let fields: String = fields.iter().map(line).collect();
                format!(
                    "userdb static {{\n allow_all_users = yes\n fields {{\n  uid = {UID}\n  gid = {GID}\n{fields} }}\n}}"
                )
            }
            Users::Each(_) | Users::Passwd(_) => format!(
                "userdb passwd-file {{\n passwd_file_path = {}/passwd\n}}",
                self.dir.display()
            ),
        }
    }

    /// The whole dovecot.conf.
    pub(super) fn text(&self, imap_port: u16, lmtp_port: u16) -> String {
        let settings = self
            .settings
            .iter()
            .fold(String::new(), |text, (key, value)| {
                text + &format!("{key} = {value}\n")
            });
        let (text, location, userdb) = if dovecot24::is_used() {
            let text = include_str!("dovecot.conf.2.4.in");
            (text, self.location_2_4(), self.userdb_2_4())
        } else {
            let text = include_str!("dovecot.conf.in");
            (text, self.location(), self.userdb())
        };
        text.replace("@DIR@", &self.dir.display().to_string())
            .replace("@IMAP@", &imap_port.to_string())
            .replace("@LMTP@", &lmtp_port.to_string())
            .replace("@LOCATION@", &location)
            .replace("@MMAP_DISABLE@", if self.mmap { "no" } else { "yes" })
            .replace("@LOCK_METHOD@", self.lock_method)
            .replace("@USERDB@", &userdb)
            .replace("@SETTINGS@", &settings)
            .replace("@RAW@", &self.raw)
    }
}
