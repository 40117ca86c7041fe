//go:build privileged && linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/s2s"
)

// The last connection of a tenant goes, with its link and routes, also where no agent
// can be started any more that would take them away.
func TestNoAgentToRemoveTunnels(t *testing.T) {
	r := newRig(t)
	r.start()
	ip(t, r.ns, "link set ext1 up")
	doc := v1.Document{APIVersion: v1.APIVersion, ProviderAddresses: []v1.ProviderAddress{{Address: "192.168.1.1/24", Interface: "pa0"}},
		Tenants: []v1.Tenant{{Name: "contoso", Encap: "nvgre",
			Subnets: []v1.Subnet{{VSID: 5001, Prefixes: []string{"10.1.1.0/24"}}, {VSID: 5000, Prefixes: []string{"10.254.254.0/29"}}},
			Gateway: &v1.Gateway{VSID: 5000, Uplink: "internet", NAT: &v1.NAT{Pool: []string{"203.0.113.10"}}}}},
		S2SConnections: []v1.S2SConnection{{Tenant: "contoso", Name: "hq", Addresses: []string{"169.254.1.1/30"}, DSCP: 10,
			Peers: []v1.S2SPeer{{Name: "hq", PublicKey: s2s.NewPrivateKey().Public().String(), Endpoint: "203.0.113.100:51820", Prefixes: []string{"169.254.1.2/32", "172.16.1.0/24"}}}}}}
	body, err := json.Marshal(doc)
	must(t, err)
	must(t, r.ask("POST", "/v1/apply", string(body), nil))
	ns := r.instance + "-contoso"
	left := func() string {
		out, err := exec.Command("sh", "-c", fmt.Sprintf("ip -n %[1]s -br link; ip -n %[1]s route; ip netns exec %[1]s nft list tables", ns)).CombinedOutput()
		if err != nil {
			return err.Error() + string(out)
		}
		return string(out)
	}
	var status v1.TenantStatus
	r.await("the tunnel", func() error {
		err := r.ask("GET", "/v1/tenants/contoso/status", "", &status)
		if now := left(); err == nil && (status.Agent == nil || !status.Agent.Running || !strings.Contains(now, "wg-hq") || !strings.Contains(now, "172.16.1.0/24") || !strings.Contains(now, "hnv-s2s")) {
			err = fmt.Errorf("agent %+v, %s", status.Agent, now)
		}
		return err
	})
	must(t, os.Remove(filepath.Join(r.dir, "compartmentd")))
	must(t, unix.Kill(status.Agent.PID, unix.SIGKILL))
	must(t, r.ask("DELETE", "/v1/s2s-connections/contoso/hq", "", nil))
	r.await("the tunnel's end", func() error {
		status = v1.TenantStatus{}
		if err := r.ask("GET", "/v1/tenants/contoso/status", "", &status); err != nil {
			return err
		}
		if now := left(); status.Phase != v1.PhaseReady || status.Agent != nil || strings.Contains(now, "wg-hq") || strings.Contains(now, "172.16.1.0/24") || strings.Contains(now, "hnv-s2s") {
			return fmt.Errorf("%s, agent %+v, %s", status.Phase, status.Agent, now)
		}
		return nil
	})
}
