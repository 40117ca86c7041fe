//go:build linux

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// bigger measures cases in another size beside their first one, whose rigs are up:
// how the size slows traffic, what it takes in memory, and how long the gateway needs
// to get there, to get there again after its machine was off, and to take over what
// is there after it was killed.
func (b *run) bigger(ctx context.Context, z Size) error {
	for _, base := range b.rigs {
		if z.Tenants > 1 && !base.Tenants || z.Records > 1 && !base.Records {
			continue
		}
		if err := b.inSize(ctx, base, z); err != nil {
			return err
		}
	}
	return nil
}

// inSize measures one case. That it fails is noted, and no reason to end the run.
func (b *run) inSize(ctx context.Context, base *rig, z Size) (err error) {
	r, err := newRig(base.Case, z, len(b.Cases), b.Bin)
	if err != nil {
		return err
	}
	if b.Most > 0 && time.Since(b.began) > b.Most {
		b.missing(r.name, "", fmt.Errorf("the run had taken %v before it", time.Since(b.began).Round(time.Second)))
		return nil
	}
	b.Log("setting up %s", r.name)
	b.samples = append(b.samples, nil)
	round := len(b.samples) - 1
	r.put = func(metric, unit string, v float64) { b.put(round, r, metric, unit, v) }
	if err := r.up(ctx); err != nil {
		if ctx.Err() == nil {
			b.missing(r.name, "", err)
		}
		return context.Cause(ctx)
	}
	defer func() { err = joinDown(err, r) }()
	o := b.Options
	o.Streams, o.Flows = o.Streams[len(o.Streams)-1:], []uint32{sizeFlows}
	for n := range b.SizeRounds {
		if n > 0 {
			b.samples = append(b.samples, nil)
		}
		pair := []*rig{base, r}
		for _, m := range b.measures {
			if !m.sized {
				continue
			}
			for i := range pair {
				if err := b.one(ctx, m, pair[(i+n)%2], len(b.samples)-1, o); err != nil {
					return err
				}
			}
		}
	}
	if r.ours == nil {
		return nil
	}
	b.Log("restarting %s", r.name)
	if err := r.restarts(ctx); err != nil {
		b.missing(r.name, "restart", err)
	}
	return context.Cause(ctx)
}

// sizeFlows is how many flows the small packets have where sizes are compared: many,
// as much is looked up then.
const sizeFlows = 16384

// restarts measures how long gatewayd takes until everything is ready again: after
// it was killed, with everything still in place, and after nothing was left but what
// it keeps on disk.
func (r *rig) restarts(ctx context.Context) error {
	again := func(metric string, between func() error) error {
		if err := r.ours.kill(ctx); err != nil {
			return err
		}
		if err := between(); err != nil {
			return err
		}
		begin := time.Now()
		if err := r.ours.start(ctx); err != nil {
			return err
		}
		if err := r.ours.ready(ctx); err != nil {
			return err
		}
		r.put(metric, "s", time.Since(begin).Seconds())
		var cpu unix.Timespec
		if err := unix.ClockGettime(clockOf(r.ours.proc.PID()), &cpu); err != nil {
			return fmt.Errorf("processor time of gatewayd: %w", err)
		}
		r.put(metric+"_cpu", "s", time.Duration(cpu.Nano()).Seconds())
		return nil
	}
	if err := again("adoption", func() error { return nil }); err != nil {
		return err
	}
	return again("start_up", func() error { return r.wipe(ctx) })
}

// wipe removes what gatewayd made in the kernel, as switching the machine off does.
func (r *rig) wipe(ctx context.Context) error {
	names, err := netns.List()
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, r.lab.NS(gwMachine)+"-") {
			if err := netns.Delete(n); err != nil {
				return err
			}
		}
	}
	if err := r.nft(ctx, gwMachine, "flush ruleset\n"); err != nil {
		return err
	}
	// The links of compartments go with their namespaces, when the kernel gets to it,
	// and those that only the gateway's namespace has when they are told to.
	return retry(ctx, func() error {
		out, err := r.lab.Exec(ctx, gwMachine, "ip", "-br", "link", "show", "type", "veth")
		if err != nil {
			return err
		}
		left := 0
		for line := range strings.Lines(out) {
			name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
			if name != "pa0" && name != "ext0" {
				left++
				_, _ = r.lab.Exec(ctx, gwMachine, "ip", "link", "del", name) // or it went by itself
			}
		}
		if left > 0 {
			return fmt.Errorf("%d links are left", left)
		}
		return nil
	})
}

// importRecords gives the gateway the records of as many VMs as the size says,
// without the one that is there.
func (r *rig) importRecords(ctx context.Context) error {
	file := filepath.Join(r.lab.Dir(), "records.csv")
	if err := r.writeRecords(file); err != nil {
		return err
	}
	begin := time.Now()
	if _, err := r.ctl(ctx, "record", "import", file); err != nil {
		return err
	}
	r.put("record_import", "record/s", float64(r.size.Records)/time.Since(begin).Seconds())
	return nil
}

// writeRecords writes the file that gatewayctl imports.
func (r *rig) writeRecords(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, `"CustomerAddress","ProviderAddress","MACAddress","VirtualSubnetID","Rule","Type"`)
	vsid := r.site.tenant(0).vmVSID
	ca := r.site.manyCAs
	for n := range r.size.Records {
		fmt.Fprintf(w, "\"%s\",\"%s\",\"00155E%06X\",\"%s\",\"TranslationMethodEncap\",\"Static\"\n", ca, r.site.hostPA, n, vsid)
		ca = ca.Next()
	}
	return w.Flush()
}

// memory is what a gateway takes, in bytes.
type memory struct{ daemon, kernel float64 }

// memory gives what gatewayd has for itself, where there is one, and what the kernel
// has for its own structures, whoever they are for.
func (r *rig) memory() (m memory, err error) {
	kernel, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	m.kernel = kilobytes(string(kernel), "Slab", "Percpu", "KernelStack", "PageTables")
	if r.ours == nil {
		return m, nil
	}
	daemon, err := os.ReadFile("/proc/" + strconv.Itoa(r.ours.proc.PID()) + "/smaps_rollup")
	m.daemon = kilobytes(string(daemon), "Pss")
	return m, err
}

// kilobytes adds up lines like "Pss:  4711 kB", and gives bytes.
func kilobytes(text string, names ...string) (sum float64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		for _, n := range names {
			if len(f) == 3 && f[0] == n+":" && f[2] == "kB" {
				v, err := strconv.ParseFloat(f[1], 64)
				if err == nil {
					sum += 1024 * v
				}
			}
		}
	}
	return sum
}

// grown gives what each of n took since before; of one alone there is nothing to say.
func (r *rig) grown(before memory, what string, n int) error {
	if n == 1 {
		return nil
	}
	now, err := r.memory()
	if err != nil {
		return err
	}
	r.put(what+"_memory_kernel", "B", (now.kernel-before.kernel)/float64(n))
	if r.ours != nil {
		r.put(what+"_memory_daemon", "B", (now.daemon-before.daemon)/float64(n))
	}
	return nil
}
