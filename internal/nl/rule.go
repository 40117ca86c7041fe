//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net/netip"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rule is a routing policy rule: packets from the prefix are routed by the
// table; by the rules that follow, where the table has no route.
type Rule struct {
	Priority uint32 // lowest first
	From     netip.Prefix
	Table    uint32
	Protocol uint8 // who made it
}

func (r Rule) String() string { return fmt.Sprintf("from %s to table %d", r.From, r.Table) }

// Numbers of include/uapi/linux/fib_rules.h; a rule's message is shaped like a
// route's.
const (
	fraPriority = 6
	fraTable    = 15
	fraProtocol = 21
	fraSrc      = 2
	actToTable  = 1 // FR_ACT_TO_TBL
)

// Rules lists the rules of one protocol that are like a Rule.
func (h *Handle) Rules(protocol uint8) ([]Rule, error) {
	var out []Rule
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := h.ask(unix.RTM_GETRULE, unix.NLM_F_DUMP, unix.RTM_NEWRULE, func(r *vnl.NetlinkRequest) {
			r.AddData(&vnl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(fam)}})
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue // no IPv6, or no rules, in this kernel
		}
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		for _, m := range msgs {
			r, err := parseRule(m)
			if err != nil {
				return nil, fmt.Errorf("list rules: %w", err)
			}
			if r.Protocol == protocol && r.From.IsValid() {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

func parseRule(m []byte) (Rule, error) {
	if len(m) < unix.SizeofRtMsg {
		return Rule{}, errors.New("short rule message")
	}
	head := vnl.DeserializeRtMsg(m)
	at, err := attrs(m[unix.SizeofRtMsg:])
	if err != nil {
		return Rule{}, err
	}
	r := Rule{Priority: u32(at[fraPriority]), Table: uint32(head.Table)}
	if b, has := at[fraTable]; has {
		r.Table = u32(b)
	}
	if p := at[fraProtocol]; len(p) == 1 {
		r.Protocol = p[0]
	}
	if b, has := at[fraSrc]; has {
		r.From = netip.PrefixFrom(addr(b), int(head.Src_len))
	}
	return r, nil
}

// AddRule adds a rule. One that is there already is unix.EEXIST.
func (h *Handle) AddRule(r Rule) error {
	if err := h.tell(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ruleMessage(r)); err != nil {
		return fmt.Errorf("add rule %s: %w", r, err)
	}
	return nil
}

// DelRule removes exactly this rule; it is no error if it is not there.
func (h *Handle) DelRule(r Rule) error {
	err := h.tell(unix.RTM_DELRULE, 0, ruleMessage(r))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rule %s: %w", r, err)
	}
	return nil
}

func ruleMessage(rule Rule) func(*vnl.NetlinkRequest) {
	return func(r *vnl.NetlinkRequest) {
		r.AddData(&vnl.RtMsg{RtMsg: unix.RtMsg{
			Family: family(rule.From.Addr()), Src_len: uint8(rule.From.Bits()), Table: shortTable(rule.Table), Type: actToTable,
		}})
		r.AddData(vnl.NewRtAttr(fraSrc, rule.From.Masked().Addr().AsSlice()))
		r.AddData(vnl.NewRtAttr(fraPriority, vnl.Uint32Attr(rule.Priority)))
		r.AddData(vnl.NewRtAttr(fraTable, vnl.Uint32Attr(rule.Table)))
		r.AddData(vnl.NewRtAttr(fraProtocol, []byte{rule.Protocol}))
	}
}
