package main

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestWritePeers(t *testing.T) {
	var out bytes.Buffer
	writePeers(&out, v1.GatewayStatus{})
	writePeers(&out, v1.GatewayStatus{Learned: &v1.LearnedStatus{}, Peers: []v1.PeerStatus{}})
	if out.Len() > 0 {
		t.Errorf("says of nothing:\n%s", &out)
	}
	writePeers(&out, v1.GatewayStatus{
		Learned: &v1.LearnedStatus{Own: 7, Reported: 40, OverLimit: 1},
		Peers: []v1.PeerStatus{
			{Name: "gw1", Target: "https://10.99.0.1:8443", Phase: v1.PhaseReady, Connected: true, Pushed: 4, Static: 1, Unneeded: 2, LastHeld: "lookup record 5001/10.1.1.11 is configured"},
			{Name: "gw2", Target: "https://10.99.0.2:8443", Phase: v1.PhaseDegraded, Pushed: 3, Pending: 3, LastError: "no gateway answers at https://10.99.0.2:8443: connection refused", LastHeld: "x"},
			{Name: "host7", Target: "/run/host7.sock", Phase: v1.PhaseReady, Connected: true, Unneeded: 6, LastHeld: "old"},
		},
	})
	want := `
LEARNED HERE  REPORTED BY OTHERS  OVER THE LIMIT  UNSTEADY
7             40                  1               0

PEER   AT                      PHASE     CONNECTED  PUSHED  PENDING  NOT TAKEN             MESSAGE
gw1    https://10.99.0.1:8443  Ready     yes        4       0        1 static, 2 unneeded  lookup record 5001/10.1.1.11 is configured
gw2    https://10.99.0.2:8443  Degraded  no         3       3        -                     no gateway answers at https://10.99.0.2:8443: connection refused
host7  /run/host7.sock         Ready     yes        0       0        6 unneeded            -
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
