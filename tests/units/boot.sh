# boot.sh DIR LOWER: systemd as pid 1 over a copy of LOWER, this machine's root or another, that vanishes with it. Run as the
# first process of a pid, mount, network, UTS, IPC and cgroup namespace of its own.
set -eu
dir=$1
lower=$2
root=$dir/root
mkdir "$dir/upper" "$dir/work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup" 2>/dev/null || :
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty fuse; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
# What this machine starts is none of ours.
rm -rf "$root"/etc/systemd/system/* "$root"/etc/fstab
cp -a "$dir/over/." "$root/"
# What is lent to it.
while read -r from to; do
    mkdir -p "$root$to"
    mount --bind "$from" "$root$to"
    mount -o remount,bind,ro "$root$to"
done <"$dir/borrowed"
# Not a first boot.
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
mkdir -p "$root/old"
cd "$root"
pivot_root . old
umount -l /old
# As on a real host: what is mounted is seen by services in mount namespaces of their own, as Debian's Dovecot is.
mount --make-rshared /
exec env -i container=listindexfs-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --show-status=no
