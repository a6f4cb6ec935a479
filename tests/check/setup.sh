# A host in a mount namespace of its own, below /srv, set up as the manual says. A case changes the variables, or overrides a
# step, and then does what it likes. Arguments: the test's directory, the programs' directory, the unit's file, and the root of
# another Debian, whose /usr and /etc are taken instead.
set -e
umask 022
PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
# Mounts of other tests are none of this host's.
sed -n 's/^[^ ]* \([^ ]*\) fuse.listindexfs .*/\1/p' /proc/self/mounts | while read -r at; do umount -l "$at" || :; done
[ -z "$4" ] || mount --bind "$4/usr" /usr
cp -a "$4/etc" "$1/etc"
mkdir "$1/srv" "$1/sbin"
ln -s "$2/listindexfs" "$2/listindexctl" "$1/sbin/"
mount --bind "$1/etc" /etc
mount --bind "$1/sbin" /usr/local/sbin
mount --bind "$1/srv" /srv
[ ! -d /run/systemd/system ] || mount -t tmpfs tmpfs /run/systemd
unit=$3

options='index=/srv/nfs/%2.256Nu/%u,index_fs=tmpfs,migrate'
tmpfs='size=64m,nr_inodes=16k,mode=0700'
mail='mdbox:~/mdbox:INDEX=/srv/nfs/%2.256Nu/%u:LISTINDEX=/srv/li/%2.256Nu/%u/dovecot.list.index'
userdb='driver = static
 args = uid=64100 gid=64100 home=/srv/mail/%u'
dirty=yes
more=

nfs() { mkdir /srv/nfs; mount -t tmpfs -o mode=755 tmpfs /srv/nfs; }
backing() { mkdir -m 700 /srv/b; mount -t tmpfs -o "$tmpfs" tmpfs /srv/b; }
fstab() { echo "tmpfs /srv/b tmpfs $tmpfs 0 0"; }
instance() {
    mkdir /etc/listindexfs
    printf "BACKING='/srv/b'\nMOUNTPOINT='/srv/li'\nOPTIONS='%s'\n" "$options" >/etc/listindexfs/main.conf
    install -m 644 "$unit" /etc/systemd/system/
    enable
}
enable() {
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -s /etc/systemd/system/listindexfs@.service /etc/systemd/system/multi-user.target.wants/listindexfs@main.service
}
point() { listindexctl prepare /srv/li; }
mounted() { listindexfs /srv/b /srv/li -o "$options"; }
dovecot_conf() {
    cat >/etc/dovecot/dovecot.conf <<END
ssl = no
protocols = imap
base_dir = /srv/run
first_valid_uid = 1
mail_location = $mail
mailbox_list_index_very_dirty_syncs = $dirty
mmap_disable = yes
mail_fsync = always
namespace inbox {
 inbox = yes
}
userdb {
 $userdb
}
$more
END
}
# The same for Dovecot 2.4.
hash='%{user | md5 | substr(0, 8) % 256 | hex(2)}'
index="/srv/nfs/$hash/%{user}"
listindex="/srv/li/$hash/%{user}/dovecot.list.index"
new_dovecot_conf() {
    cat >/etc/dovecot/dovecot.conf <<END
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
ssl = no
base_dir = /srv/run
first_valid_uid = 1
mail_driver = mdbox
mail_path = %{home}/mdbox
mail_index_path = $index
mailbox_list_index_prefix = $listindex
mailbox_list_index_very_dirty_syncs = $dirty
mmap_disable = yes
mail_fsync = always
namespace inbox {
  inbox = yes
}
userdb static {
  fields {
    uid = 64100
    gid = 64100
    home = /srv/mail/%{user}
  }
}
$more
END
}
# Whoever serves, by the lock of the backing.
supervisor() { sed -n 's/^pid //p' /srv/b/.listindexfs/lock; }
worker() { cat "/proc/$(supervisor)/task/$(supervisor)/children"; }
gone() { while kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; do sleep 0.01; done; }
build() {
    nfs; backing; fstab >/etc/fstab; instance; point; dovecot_conf
    trap 'umount -l /srv/li 2>/dev/null || :' EXIT
    mounted
}
