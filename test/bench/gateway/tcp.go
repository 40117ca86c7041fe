//go:build linux

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
)

// tcp measures how fast TCP streams between the VM and the Internet are, and what
// processor time they cost.
func tcp(ctx context.Context, r *rig, o Options, put put) error {
	for _, n := range o.Streams {
		for _, way := range []string{"up", "down"} {
			before, err := r.work()
			if err != nil {
				return err
			}
			rate, bits, err := r.iperf(ctx, n, way == "down", o.Time)
			if err != nil {
				return err
			}
			after, err := r.work()
			if err != nil {
				return err
			}
			metric := fmt.Sprintf("tcp_%s_%d", way, n)
			put(metric, "bit/s", rate)
			put(metric+"_cpu", "s/Gbit", (after-before).Seconds()/(bits/1e9))
		}
	}
	return nil
}

// iperf runs iperf3 on the VM and gives what arrived.
func (r *rig) iperf(ctx context.Context, streams int, down bool, t time.Duration) (rate, bits float64, err error) {
	seconds := max(1, int(t.Round(time.Second).Seconds()))
	argv := []string{"iperf3", "-J", "-c", r.site.service.String(), "-p", strconv.Itoa(int(r.site.streamPort)),
		"-t", strconv.Itoa(seconds), "-P", strconv.Itoa(streams), "--connect-timeout", "5000"}
	if down {
		argv = append(argv, "-R")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+20*time.Second)
	defer cancel()
	for {
		out, err := r.lab.Exec(ctx, vmMachine, argv...)
		var failed *lab.ExitError
		if errors.As(err, &failed) && failed.Stdout != "" {
			out, err = failed.Stdout, nil // it says why there
		}
		if err != nil {
			return 0, 0, err
		}
		rate, bits, err = iperfResult([]byte(out))
		if !errors.Is(err, errBusy) {
			return rate, bits, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
}

// errBusy tells that the server, which has one client at a time, is between two.
var errBusy = errors.New("iperf3: the server is busy")

func iperfResult(out []byte) (rate, bits float64, err error) {
	var report struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Bytes float64 `json:"bytes"`
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, 0, fmt.Errorf("iperf3's report: %w", err)
	}
	if strings.Contains(report.Error, "server is busy") || strings.Contains(report.Error, "unable to receive control message") {
		return 0, 0, errBusy
	}
	if report.Error != "" || report.End.Received.Bytes == 0 {
		return 0, 0, fmt.Errorf("iperf3: nothing arrived: %s", report.Error)
	}
	return report.End.Received.Rate, 8 * report.End.Received.Bytes, nil
}
