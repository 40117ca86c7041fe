//go:build linux

package offload

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// NATOffload tells why connections cannot be translated in the programs; nil: they
// can.
func (u *Uplink) NATOffload() error {
	if !u.k.nat {
		return errors.New("the fast path was opened without NATOffload")
	}
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	for _, name := range []string{"bpf_skb_ct_lookup", "bpf_ct_release", "bpf_ct_change_timeout"} {
		var f *btf.Func
		err := types.TypeByName(name, &f)
		if err != nil {
			if module, merr := btf.LoadKernelModuleSpec("nf_conntrack"); merr == nil {
				err = module.TypeByName(name, &f)
			}
		}
		if err != nil {
			return fmt.Errorf("%s is not there (Linux 6.0): %w", name, err)
		}
	}
	return nil
}
