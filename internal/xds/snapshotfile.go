// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The file of a snapshot: a line that names the format and its version, the snapshot, and a SHA-256 of all before. Nothing of it is believed before the
// checksum was seen to be right: a file that a crash of the node cut off, or a disk damaged, is refused as a whole.

const (
	snapshotMagic = "isthmus snapshot 1\n"
	// maxSnapshotFile bounds the file, in bytes: 100,000 workloads are about 30 MiB.
	maxSnapshotFile = 512 << 20
	// snapshotSkew is how far in the future a file may have been confirmed: clocks are set right now and then.
	snapshotSkew = 5 * time.Minute
	// staleTemporary is how old a temporary file is that nobody can still be writing.
	staleTemporary = time.Hour
)

// SnapshotRefusal is why a snapshot is not used, as it stands in metrics.
type SnapshotRefusal string

// The reasons. That there is no file is none.
const (
	RefusedDamaged    SnapshotRefusal = "damaged"    // cut off, changed, or not decodable
	RefusedForeign    SnapshotRefusal = "foreign"    // of another cluster or network, or written by somebody else
	RefusedTooOld     SnapshotRefusal = "too_old"    // or from the future
	RefusedTooBig     SnapshotRefusal = "too_big"    // nobody writes such a file
	RefusedUnreadable SnapshotRefusal = "unreadable" // the file system says so
	RefusedVersion    SnapshotRefusal = "version"    // of a format that this program does not know
)

// SnapshotError is a refusal, and what was found.
type SnapshotError struct {
	Reason SnapshotRefusal
	Err    error
}

func (e *SnapshotError) Error() string {
	return fmt.Sprintf("snapshot refused (%s): %v", e.Reason, e.Err)
}
func (e *SnapshotError) Unwrap() error { return e.Err }

func refuseSnapshot(why SnapshotRefusal, format string, args ...any) *SnapshotError {
	return &SnapshotError{why, fmt.Errorf(format, args...)}
}

// SaveSnapshot replaces the file at path by a snapshot of v, and gives its size. Whoever reads, at whatever moment and after whatever crash, finds the file from
// before or the new one. The directory must exist. A snapshot that would be larger than what is read again is not written.
func SaveSnapshot(path string, scope SnapshotScope, v Contents) (size int64, err error) {
	sweepTemporaries(path)
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name()) // what failed first is what counts
		}
	}()
	sum := sha256.New()
	out := &bounded{w: io.MultiWriter(file, sum), left: maxSnapshotFile - sha256.Size}
	_, err = io.WriteString(out, snapshotMagic)
	if err == nil {
		err = writeSnapshot(out, snapshotHead{scope, time.Now().UTC()}, v)
	}
	if err == nil {
		_, err = file.Write(sum.Sum(nil))
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	return maxSnapshotFile - out.left, nil
}

// ConfirmSnapshot notes when the control plane last said that the snapshot at path is so: its age counts from then.
func ConfirmSnapshot(path string, at time.Time) error { return os.Chtimes(path, at, at) }

// sweepTemporaries removes what earlier processes were writing when they died.
func sweepTemporaries(path string) {
	found, _ := filepath.Glob(path + ".*.tmp") // only a bad pattern fails
	for _, name := range found {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > staleTemporary {
			_ = os.Remove(name) // it is in nobody's way
		}
	}
}

// syncDir makes a rename last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// bounded fails a write beyond what is left.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fmt.Errorf("more than %d bytes", maxSnapshotFile)
	}
	return b.w.Write(p)
}

// openSnapshot opens the file and checks all of it that can be checked without decoding it. It gives when the control plane confirmed it last. The error is
// a *SnapshotError, or fs.ErrNotExist.
func openSnapshot(path string, want SnapshotScope, maxAge time.Duration) (in snapshotBody, confirmed time.Time, shut func(), err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return in, confirmed, nil, err
	}
	if err != nil {
		return in, confirmed, nil, refuseSnapshot(RefusedUnreadable, "%w", err)
	}
	shut = func() { _ = file.Close() } // it was only read
	refused := func(e *SnapshotError) (snapshotBody, time.Time, func(), error) {
		shut()
		return snapshotBody{}, confirmed, nil, e
	}
	info, err := file.Stat()
	if err != nil {
		return refused(refuseSnapshot(RefusedUnreadable, "%w", err))
	}
	if e := checkOwner(info); e != nil {
		return refused(e)
	}
	if info.Size() > maxSnapshotFile {
		return refused(refuseSnapshot(RefusedTooBig, "it has %d bytes, at most %d are read", info.Size(), maxSnapshotFile))
	}
	confirmed = info.ModTime()
	if age := time.Since(confirmed); age > maxAge || age < -snapshotSkew {
		return refused(refuseSnapshot(RefusedTooOld, "it was confirmed %v ago, at %v; at most %v is taken", age.Round(time.Second), confirmed.UTC().Format(time.RFC3339), maxAge))
	}
	if in, err = sealed(file, info.Size()); err != nil {
		if e, ok := errors.AsType[*SnapshotError](err); ok {
			return refused(e)
		}
		return refused(refuseSnapshot(RefusedUnreadable, "%w", err))
	}
	head, err := readSnapshotHead(in.Reader)
	if err != nil {
		return refused(refuseSnapshot(RefusedDamaged, "%w", err))
	}
	if head.SnapshotScope != want {
		return refused(refuseSnapshot(RefusedForeign, "it is of cluster %q and network %q, not of %q and %q", clip(head.Cluster), clip(head.Network), want.Cluster, want.Network))
	}
	return in, confirmed, shut, nil
}

// checkOwner makes sure that only this user, or root, can have written the file.
func checkOwner(info fs.FileInfo) *SnapshotError {
	if !info.Mode().IsRegular() {
		return refuseSnapshot(RefusedForeign, "it is no file but %v", info.Mode().Type())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return refuseSnapshot(RefusedForeign, "its mode %v lets others write it", info.Mode().Perm())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() && stat.Uid != 0 {
		return refuseSnapshot(RefusedForeign, "it belongs to user %d", stat.Uid)
	}
	return nil
}

// snapshotBody is what a file holds between its first line and its checksum.
type snapshotBody struct {
	*bufio.Reader
	size int64
}

// sealed checks the format and the checksum of a file of size bytes, and gives what is between.
func sealed(file io.ReaderAt, size int64) (snapshotBody, error) {
	magic := make([]byte, min(size, int64(len(snapshotMagic))))
	if _, err := file.ReadAt(magic, 0); err != nil {
		return snapshotBody{}, err
	}
	if !bytes.Equal(magic, []byte(snapshotMagic)) {
		if bytes.HasPrefix(magic, []byte(snapshotMagic[:len("isthmus snapshot ")])) {
			return snapshotBody{}, refuseSnapshot(RefusedVersion, "its format is %q, this program knows %q", magic, snapshotMagic)
		}
		return snapshotBody{}, refuseSnapshot(RefusedDamaged, "it does not begin as a snapshot does")
	}
	body := size - sha256.Size
	if body < int64(len(snapshotMagic)) {
		return snapshotBody{}, refuseSnapshot(RefusedDamaged, "it has only %d bytes", size)
	}
	want, sum := make([]byte, sha256.Size), sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, body)); err != nil {
		return snapshotBody{}, err
	}
	if _, err := file.ReadAt(want, body); err != nil {
		return snapshotBody{}, err
	}
	if !bytes.Equal(want, sum.Sum(nil)) {
		return snapshotBody{}, refuseSnapshot(RefusedDamaged, "its checksum is wrong")
	}
	start := int64(len(snapshotMagic))
	return snapshotBody{bufio.NewReaderSize(io.NewSectionReader(file, start, body-start), 64<<10), body - start}, nil
}
