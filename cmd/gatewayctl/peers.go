package main

import (
	"fmt"
	"io"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// writePeers tells how far this machine's learned records have got.
func writePeers(w io.Writer, st v1.GatewayStatus) {
	if l := st.Learned; l != nil && *l != (v1.LearnedStatus{}) {
		fmt.Fprintln(w)
		t := table{header: []string{"LEARNED HERE", "REPORTED BY OTHERS", "OVER THE LIMIT", "UNSTEADY"}}
		t.add(number(l.Own), number(l.Reported), number(l.OverLimit), number(l.Unsteady))
		t.write(w)
	}
	if len(st.Peers) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{"PEER", "AT", "PHASE", "CONNECTED", "PUSHED", "PENDING", "NOT TAKEN", "MESSAGE"}}
	for _, p := range st.Peers {
		connected := "no"
		if p.Connected {
			connected = "yes"
		}
		t.add(p.Name, p.Target, string(p.Phase), connected, number(p.Pushed), number(p.Pending), notTaken(p), peerMessage(p))
	}
	t.write(w)
}

// notTaken counts what the peer did not take, by why.
func notTaken(p v1.PeerStatus) string {
	var out []string
	for _, x := range []struct {
		n   int
		why string
	}{{p.Static, "static"}, {p.Unneeded, "unneeded"}, {p.Superseded, "superseded"}, {p.Refused, "refused"}} {
		if x.n > 0 {
			out = append(out, number(x.n)+" "+x.why)
		}
	}
	return strings.Join(out, ", ")
}

func peerMessage(p v1.PeerStatus) string {
	switch {
	case p.LastError != "":
		return p.LastError
	case p.Static+p.Refused+p.Superseded > 0:
		return p.LastHeld
	}
	return ""
}
