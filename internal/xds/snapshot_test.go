// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var here = SnapshotScope{Cluster: "east", Network: "net-1"}

func contentsOf(s mesh.Snapshot) Contents {
	return Contents{maps.Values(s.Workloads), maps.Values(s.Services), maps.Values(s.Policies), maps.Values(s.Bundles), maps.Values(s.Gateways)}
}

// trusting is world() and a bundle.
func trusting() mesh.Snapshot {
	s := world()
	b := sampleBundle()
	s.Bundles[b.TrustDomain] = b
	return s
}

// saved is a file that holds a snapshot.
func saved(t testing.TB, s mesh.Snapshot) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "discovery")
	size, err := SaveSnapshot(path, here, contentsOf(s))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; it is said to have %d bytes", info, err, size)
	}
	return path
}

// alone is a client that no server was told of.
func alone(m *mirror) *Client {
	return NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses(), Policies(), Bundles()}, Apply: m.apply})
}

// refusedAs is why a file is not taken; it fails the test if anything of the file was.
func refusedAs(t testing.TB, path string, maxAge time.Duration) SnapshotRefusal {
	t.Helper()
	m := newMirror()
	c := alone(m)
	got, err := c.Restore(path, here, maxAge)
	if err == nil {
		return ""
	}
	if m.count() > 0 || len(c.known[addressURL]) > 0 || got.Resources > 0 {
		t.Errorf("error %v, and %d times applied, %d known", err, m.count(), len(c.known[addressURL]))
	}
	e, ok := errors.AsType[*SnapshotError](err)
	if !ok {
		t.Fatalf("%v does not say why", err)
	}
	return e.Reason
}

// TestRestore starts a client from a snapshot: it knows all at once, and a server that knows more tells only that.
func TestRestore(t *testing.T) {
	want := trusting()
	path := saved(t, want)
	m := newMirror()
	got, err := alone(m).Restore(path, here, time.Hour)
	if err != nil || got.Resources != 5 || time.Since(got.Confirmed) > time.Minute {
		t.Fatalf("%+v, %v", got, err)
	}
	m.await(t, want)
	if m.count() != 1 {
		t.Errorf("told in %d parts", m.count())
	}

	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	delete(want.Workloads, samplePod().UID)
	added := &mesh.Workload{UID: "new", Name: "new", Namespace: "shop", TrustDomain: "cluster.local", ServiceAccount: "a", Cluster: "east", Capacity: 1}
	want.Workloads[added.UID] = added
	s.Update(everything(want))
	m = newMirror()
	o := clientOptions(t, server.addr, m)
	o.Types = []Type{Addresses(), Policies(), Bundles()}
	c := NewClient(o)
	if _, err := c.Restore(path, here, time.Hour); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Synced():
		t.Error("a snapshot made it synced")
	default:
	}
	before := m.count()
	run(t, c)
	awaitSynced(t, c)
	m.await(t, want)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.deltas[before:] {
		if len(d.Services) > 0 || len(d.Workloads) > 2 || len(d.Bundles) > 0 {
			t.Errorf("told again: %v", d)
		}
	}
}

// TestRestoreGateway starts a gateway's client from a snapshot: it has its configuration at once, and is not told it again.
func TestRestoreGateway(t *testing.T) {
	want := trusting()
	g := sampleGateway()
	want.Gateways[g.Key()] = g
	path := saved(t, want)
	delete(want.Policies, samplePolicy().Key()) // no gateway asks for these
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	s.Update(everything(want))
	m := newMirror()
	o := clientOptions(t, server.addr, m)
	o.Types = []Type{Addresses(), Gateway(g.Key()), Bundles()}
	c := NewClient(o)
	if got, err := c.Restore(path, here, time.Hour); err != nil || got.Resources != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
	m.await(t, want)
	before := m.count()
	run(t, c)
	awaitSynced(t, c)
	if n := m.count(); n != before {
		t.Errorf("told again: %v", m.deltas[before:])
	}
}

// TestRestoreLargeGateway: what a gateway was told in one large resource is kept as well.
func TestRestoreLargeGateway(t *testing.T) {
	g := sampleGateway()
	g.Listeners = []mesh.Listener{{Name: "http", Port: 80, Bind: 20080, Protocol: mesh.ListenerHTTP}}
	long := "/" + strings.Repeat("p", mesh.MaxValue-1)
	for i := range 9 << 20 / mesh.MaxValue {
		g.Listeners[0].Routes = append(g.Listeners[0].Routes, &mesh.HTTPRoute{
			Namespace: "shop", Name: fmt.Sprint("route-", i), Rules: []mesh.HTTPRule{{Matches: []mesh.HTTPMatch{{Path: long}}}},
		})
	}
	s := mesh.NewSnapshot()
	s.Gateways[g.Key()] = g
	var got *mesh.Gateway
	c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Gateway(g.Key())}, Apply: func(d mesh.Delta) error {
		got = d.Gateways[g.Key()]
		return nil
	}})
	if _, err := c.Restore(saved(t, s), here, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got == nil || len(got.Listeners[0].Routes) != len(g.Listeners[0].Routes) {
		t.Error("the Gateway is not in what was kept, or not all of it")
	}
}

// TestSnapshotThatCannotBeRead: what would be refused when it is read is an error of who writes it, and not left out.
func TestSnapshotThatCannotBeRead(t *testing.T) {
	for most, fits := range map[int]bool{16: false, 1 << 20: true} {
		s := snapshotWriter{w: bufio.NewWriter(io.Discard), most: most}
		writeAll(&s, addressURL, slices.Values([]*mesh.Workload{pod("a", "10.0.0.1", "node-1")}), workloadEntry)
		if (s.err == nil) != fits {
			t.Errorf("of %d bytes: %v", most, s.err)
		}
	}
}

// TestRestoreTakesNothingBack restores into a client that a server has told something else since.
func TestRestoreTakesNothingBack(t *testing.T) {
	path := saved(t, trusting())
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	newer := mesh.NewSnapshot()
	pod := *samplePod()
	pod.Unhealthy = !pod.Unhealthy
	newer.Workloads[pod.UID] = &pod
	s.Update(everything(newer))
	m := newMirror()
	c := NewClient(clientOptions(t, server.addr, m))
	stop := run(t, c)
	awaitSynced(t, c)
	stop()
	if _, err := c.Restore(path, here, time.Hour); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	got := m.snapshot.Workloads[pod.UID]
	m.mu.Unlock()
	if got.Unhealthy != pod.Unhealthy {
		t.Error("the snapshot replaced what the server had said")
	}
	// The server says the rest is gone.
	run(t, c)
	m.await(t, newer)
}

// TestSnapshotsThatAreRefused says why, and leaves a client that knows nothing.
func TestSnapshotsThatAreRefused(t *testing.T) {
	file, err := os.ReadFile(saved(t, trusting()))
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, by string) []byte {
		return seal([]byte(strings.Replace(string(file[:len(file)-sha256.Size]), old, by, 1)))
	}
	endless := seal(append(append([]byte(snapshotMagic), `{"cluster":"east","network":"net-1"}`+"\n"...), protowire.AppendVarint(nil, 1<<62)...))
	flipped := append([]byte(nil), file...)
	flipped[len(flipped)/2] ^= 1
	for name, tc := range map[string]struct {
		data []byte
		want SnapshotRefusal
	}{
		"empty":                     {nil, RefusedDamaged},
		"text":                      {[]byte("GET / HTTP/1.1\r\n\r\n"), RefusedDamaged},
		"a bit flipped":             {flipped, RefusedDamaged},
		"another version":           {replaced("snapshot 1", "snapshot 2"), RefusedVersion},
		"another cluster":           {replaced(`"east"`, `"west"`), RefusedForeign},
		"another network":           {replaced(`"net-1"`, `"net-2"`), RefusedForeign},
		"no first line":             {seal([]byte(snapshotMagic + "\n")), RefusedDamaged},
		"an endless first line":     {seal([]byte(snapshotMagic + strings.Repeat("x", 10_000))), RefusedDamaged},
		"a message of 2^62 bytes":   {endless, RefusedDamaged},
		"sealed but cut off before": {seal(file[:len(file)-sha256.Size-10]), RefusedDamaged},
	} {
		path := filepath.Join(t.TempDir(), "discovery")
		if err := os.WriteFile(path, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := refusedAs(t, path, time.Hour); got != tc.want {
			t.Errorf("%s: refused as %q, want %q", name, got, tc.want)
		}
	}
	path := filepath.Join(t.TempDir(), "discovery")
	for n := 0; n < len(file); n += 1 + n/8 {
		if err := os.WriteFile(path, file[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := refusedAs(t, path, time.Hour); got != RefusedDamaged {
			t.Fatalf("cut off at %d of %d: %q", n, len(file), got)
		}
	}
}

// TestFilesThatAreRefused is about what a file is, whatever it holds.
func TestFilesThatAreRefused(t *testing.T) {
	path := saved(t, trusting())
	at := func(d time.Duration) {
		t.Helper()
		when := time.Now().Add(d)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	for age, want := range map[time.Duration]SnapshotRefusal{
		-59 * time.Minute: "", -61 * time.Minute: RefusedTooOld, 4 * time.Minute: "", 6 * time.Minute: RefusedTooOld,
	} {
		at(age)
		if got := refusedAs(t, path, time.Hour); got != want {
			t.Errorf("confirmed at %v from now: %q, want %q", age, got, want)
		}
	}
	if err := ConfirmSnapshot(path, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := refusedAs(t, path, time.Hour); got != "" {
		t.Errorf("confirmed just now: %q", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := refusedAs(t, path, time.Hour); got != RefusedForeign {
		t.Errorf("anybody may have written it: %q", got)
	}
	link := path + ".link"
	if err := errors.Join(os.Chmod(path, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if got := refusedAs(t, link, time.Hour); got != RefusedUnreadable {
		t.Errorf("a link: %q", got)
	}
	if got := refusedAs(t, filepath.Dir(path), time.Hour); got != RefusedForeign {
		t.Errorf("a directory: %q", got)
	}
	big := path + ".big"
	if err := errors.Join(os.WriteFile(big, nil, 0o600), os.Truncate(big, maxSnapshotFile+1)); err != nil {
		t.Fatal(err)
	}
	if got := refusedAs(t, big, time.Hour); got != RefusedTooBig {
		t.Errorf("a sparse file beyond the bound: %q", got)
	}
	if _, err := alone(newMirror()).Restore(path+".none", here, time.Hour); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestSaveSnapshotLeavesTheOldOne fails in the middle of writing.
func TestSaveSnapshotLeavesTheOldOne(t *testing.T) {
	path := saved(t, trusting())
	left := path + ".123.tmp"
	long := time.Now().Add(-2 * staleTemporary)
	if err := errors.Join(os.WriteFile(left, nil, 0o600), os.Chtimes(left, long, long)); err != nil {
		t.Fatal(err)
	}
	bad := mesh.NewSnapshot()
	bad.Workloads["x"] = &mesh.Workload{UID: "x", Name: "\xff"} // no string of protobuf
	if _, err := SaveSnapshot(path, here, contentsOf(bad)); err == nil {
		t.Error("what cannot be encoded was written")
	}
	if got := refusedAs(t, path, time.Hour); got != "" {
		t.Errorf("the file from before is refused: %q", got)
	}
	if found, _ := filepath.Glob(path + ".*"); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
}

// TestSnapshotInChunks is about more than fits in one message.
func TestSnapshotInChunks(t *testing.T) {
	want := mesh.NewSnapshot()
	for i := range 3000 {
		w := *samplePod()
		w.Name = fmt.Sprintf("pod-%d", i)
		w.UID = "east//Pod/shop/" + w.Name
		want.Workloads[w.UID] = &w
	}
	path := saved(t, want)
	if info, err := os.Stat(path); err != nil || info.Size() < 2*snapshotChunk {
		t.Fatalf("%v, %v: one chunk", info.Size(), err)
	}
	m := newMirror()
	if got, err := alone(m).Restore(path, here, time.Hour); err != nil || got.Resources != 3000 {
		t.Fatalf("%+v, %v", got, err)
	}
	m.await(t, want)
}

// seal adds the checksum.
func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(append([]byte(nil), body...), sum[:]...)
}

// FuzzRestore reads whatever a disk may hold, with a checksum that is right and with the one that is there.
func FuzzRestore(f *testing.F) {
	file, err := os.ReadFile(saved(f, trusting()))
	if err != nil {
		f.Fatal(err)
	}
	body := file[:len(file)-sha256.Size]
	f.Add(body)
	f.Add(body[:len(body)/2])
	f.Add(file)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "discovery")
		for _, content := range [][]byte{data, seal(data)} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			refusedAs(t, path, time.Hour)
		}
	})
}

// BenchmarkSnapshot writes and reads what a proxy of a big mesh knows.
func BenchmarkSnapshot(b *testing.B) {
	big := mesh.NewSnapshot()
	for i := range 100_000 {
		w := *samplePod()
		w.Name = fmt.Sprintf("pod-%d", i)
		w.UID = "east//Pod/shop/" + w.Name
		big.Workloads[w.UID] = &w
	}
	path := saved(b, big)
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			size, err := SaveSnapshot(path, here, contentsOf(big))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
		}
	})
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses()}, Apply: func(mesh.Delta) error { return nil }})
			if _, err := c.Restore(path, here, time.Hour); err != nil {
				b.Fatal(err)
			}
		}
	})
}
