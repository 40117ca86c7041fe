package offload

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

func spec(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	s, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The entries are in Go what they are in C: size, members, offsets.
func TestEntriesAreThoseOfThePrograms(t *testing.T) {
	s := spec(t)
	for name, want := range map[string]struct{ key, value any }{
		"pas":          {addr{}, paValue{}},
		"vsids":        {uint32(0), subnetValue{}},
		"ports":        {uint32(0), portValue{}},
		"stations":     {stationKey{}, portValue{}},
		"records":      {recordKey{}, recordValue{}},
		"hosts":        {hostKey{}, uint8(0)},
		"teams":        {uint32(0), teamValue{}},
		"routes":       {routeKey{}, routeValue{}},
		"hop_sets":     {uint32(0), hopSet{}},
		"settings":     {uint32(0), settingsValue{}},
		"settings_now": {uint32(0), uint32(0)},
		"buckets":      {uint32(0), bucketValue{}},
		"traffic":      {uint32(0), trafficValue{}},
		"events":       {eventKey{}, uint64(0)},
		"outcomes":     {uint32(0), outcome{}},
		"externals":    {addr{}, externalValue{}},
		"shares":       {shareKey{}, externalValue{}},
		"forwards":     {forwardKey{}, forwardValue{}},
		"exit_counts":  {uint32(0), exitCount{}},
		"nat_exits":    {uint32(0), natExit{}},
		"nat_slots":    {uint32(0), uint32(0)},
		"nat_flows":    {flowKey{}, flowValue{}},
		"epoch":        {uint32(0), uint64(0)},
		"verdicts":     {verdictKey{}, verdictValue{}},
		"rates":        {uint32(0), rateValue{}},
	} {
		m := s.Maps[name]
		if m == nil {
			t.Errorf("there is no map %s", name)
			continue
		}
		compareTypes(t, name+" key", m.Key, reflect.TypeOf(want.key))
		compareTypes(t, name+" value", m.Value, reflect.TypeOf(want.value))
	}
	for name := range s.Maps {
		if !slices.Contains(kept, name) && !slices.Contains([]string{"outcomes", "scratch", "nat_work", "nat_flows", "neighbors", ".rodata"}, name) {
			t.Errorf("map %s is not known here", name)
		}
	}
}

// compareTypes holds a Go type against a C one.
func compareTypes(t *testing.T, where string, c btf.Type, g reflect.Type) {
	t.Helper()
	c = btf.UnderlyingType(c)
	size, err := btf.Sizeof(c)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	if size != int(g.Size()) {
		t.Errorf("%s: %d bytes in C, %d in Go", where, size, g.Size())
		return
	}
	switch c := c.(type) {
	case *btf.Struct:
		if g.Kind() == reflect.Array { // an address
			return
		}
		if g.Kind() != reflect.Struct {
			if g.Kind() != reflect.Uint32 { // a lock
				t.Errorf("%s: a struct in C, %s in Go", where, g)
			}
			return
		}
		if len(c.Members) != g.NumField() {
			t.Errorf("%s: %d members in C, %d in Go", where, len(c.Members), g.NumField())
			return
		}
		end := uintptr(0)
		for i, m := range c.Members {
			f := g.Field(i)
			at := where + "." + f.Name
			if strings.ReplaceAll(m.Name, "_", "") != strings.ToLower(f.Name) {
				t.Errorf("%s is %s in C", at, m.Name)
			}
			if m.Offset.Bytes() != uint32(f.Offset) {
				t.Errorf("%s: at %d in C, at %d in Go", at, m.Offset.Bytes(), f.Offset)
			}
			if f.Offset != end {
				t.Errorf("%s: %d bytes before it have no name", at, f.Offset-end)
			}
			end = f.Offset + f.Type.Size()
			compareTypes(t, at, m.Type, f.Type)
		}
		if end != g.Size() {
			t.Errorf("%s: %d bytes at the end have no name", where, g.Size()-end)
		}
	case *btf.Array:
		if g.Kind() != reflect.Array || int(c.Nelems) != g.Len() {
			t.Errorf("%s: %d elements in C, %s in Go", where, c.Nelems, g)
			return
		}
		compareTypes(t, where+"[]", c.Type, g.Elem())
	}
}

// The numbers are in Go what they are in C.
func TestNumbersAreThoseOfThePrograms(t *testing.T) {
	want := map[string]int64{
		"PA_TUNNEL": paTunnel, "PA_GROUP": paGroup, "PA_REWRITE": paRewrite,
		"RULE_NVGRE": int64(lookup.RuleNVGRE), "RULE_VXLAN": int64(lookup.RuleVXLAN), "RULE_REWRITE": int64(lookup.RuleRewrite),
		"SUBNET_SLOW": subnetSlow, "SUBNET_L2ONLY": subnetNameless,
		"PORT_COMPARTMENT": portCompartment, "PORT_SLOW_OUT": portSlowOut, "PORT_SLOW_IN": portSlowIn, "PORT_PEER": portPeer, "PORT_ASK_OUT": portAskOut, "PORT_ASK_IN": portAskIn,
		"VERDICT_OUT": flow.Outbound, "VERDICT_IN": flow.Inbound, "PORT_SLOW": portSlow,
		"RATE_TICKS": vfp.Ticks, "RATE_FRACTION": vfp.Fraction, "RATE_LARGEST": vfp.MinBurst,
		"DSCP_COPY": dscpCopy, "RECORD_HERE": recordHere, "RECORD_ROUTER": recordRouter, "RECORD_VM_MAC": recordVMMAC,
		"ROUTE_ON_LINK": routeOnLink, "ROUTE_HOPS": routeHops, "MAX_HOPS": maxHops, "MAX_TEAM": maxTeam, "PUNTED": punted, "LEFT_TO_STACK": leftToStack, "ANSWERED": answered, "SUBNET_LEARNS": subnetLearns,
		"META_VERSION": metaVersion, "FROM_FABRIC": int64(FromFabric), "FROM_PORT": int64(FromPort), "QUEUE_ODD": queueOdd, "QUEUE_BULK": queueBulk,
	}
	for name, a := range map[string]action{"PASS": actionPass, "DROP": actionDrop, "PUNT": actionPunt, "PORT": actionPort, "FABRIC": actionFabric, "UPLINK": actionUplink} {
		want["ACTION_"+name] = int64(a)
	}
	for w := Why(1); w < whys; w++ {
		want["PUNT_"+strings.ToUpper(strings.ReplaceAll(w.String(), "-", "_"))] = -int64(w)
	}
	for _, r := range drop.All() {
		want["DROP_"+strings.ToUpper(strings.ReplaceAll(r.String(), "-", "_"))] = int64(r)
	}
	found := enums(t)
	for name, v := range want {
		if got, ok := found[name]; !ok || got != v {
			t.Errorf("%s is %d in C (there: %v), %d in Go", name, got, ok, v)
		}
	}
	for name := range found {
		if _, ok := want[name]; !ok && name != "ETH_P_LOCAL" {
			t.Errorf("%s has no counterpart in Go", name)
		}
	}
}

// enums gives all constants that the object tells of.
func enums(t *testing.T) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	types, err := btf.LoadSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	for typ, err := range types.All() {
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := typ.(*btf.Enum); ok {
			for _, v := range e.Values {
				n := int64(v.Value)
				if e.Signed {
					n = int64(int32(v.Value))
				}
				out[v.Name] = n
			}
		}
	}
	return out
}

// Whoever changes the entries' layout is reminded of its version.
func TestLayoutVersion(t *testing.T) {
	s := spec(t)
	h := sha256.New()
	for _, name := range kept {
		if m := s.Maps[name]; m != nil {
			fmt.Fprintf(h, "%s %s %d %v %v\n", name, m.Type, m.Flags, describe(m.Key), describe(m.Value))
		}
	}
	const version, digest = 7, "8a8d50bc"
	if got := fmt.Sprintf("%x", h.Sum(nil)[:4]); got != digest || layoutVersion != version {
		t.Errorf("the layout's digest is %s in version %d; it was %s in version %d: make layoutVersion another number, and note both here", got, layoutVersion, digest, version)
	}
}

func describe(t btf.Type) string {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		var b strings.Builder
		for _, m := range t.Members {
			fmt.Fprintf(&b, "%s@%d:%s;", m.Name, m.Offset, describe(m.Type))
		}
		return b.String()
	case *btf.Array:
		return fmt.Sprintf("%d*%s", t.Nelems, describe(t.Type))
	default:
		n, _ := btf.Sizeof(t)
		return fmt.Sprint(n)
	}
}
