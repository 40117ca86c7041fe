package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/document"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) diffCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "diff -f FILE", Short: "Show what apply would change", Args: takesAtMost(0),
		Long: `Show what apply would change, and change nothing: each object that would be
created or updated, with its lines that go (-) and come (+). Everything is
checked as apply checks it. Objects that the document does not name stay, and are
not shown.`,
		Example: "  gatewayctl diff -f site.yaml\n  gatewayctl export --host 192.168.1.10 | ssh host1 gatewayctl diff -f -",
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "YAML document, or - for standard input (repeatable)")
	require(cmd, "file")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		d, err := c.document(files)
		if err != nil {
			return err
		}
		res, err := c.client.Diff(ctx, &d.Document)
		if err != nil {
			return inDocument(d, err)
		}
		out := differences{Objects: []difference{}}
		for _, o := range res.Objects {
			if o.Action == v1.ActionUnchanged {
				continue
			}
			x, err := differenceOf(o)
			if err != nil {
				return err
			}
			out.Objects = append(out.Objects, x)
		}
		if c.format != "table" {
			return c.show(out, nil)
		}
		return writeDiff(c.out, out.Objects)
	})
	return c.shows(cmd)
}

// differences is what diff prints.
type differences struct {
	Objects []difference `json:"objects"`
}

// difference is an object before and after, as a document has it; nil where it
// is not.
type difference struct {
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Action string `json:"action"`
	Old    any    `json:"old,omitempty"`
	New    any    `json:"new,omitempty"`
}

func differenceOf(o v1.ObjectAction) (d difference, err error) {
	d = difference{Kind: o.Kind, Key: o.Key, Action: o.Action}
	if d.Old, err = decoded(o.Kind, o.Old); err != nil {
		return d, err
	}
	d.New, err = decoded(o.Kind, o.New)
	return d, err
}

func decoded(kind string, raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	v := documented(kind)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("the gateway's %s is not understood: %w", kindWord(kind), err)
	}
	return v, nil
}

func writeDiff(w io.Writer, objects []difference) error {
	for _, o := range objects {
		old, err := yamlLines(o.Old)
		if err != nil {
			return err
		}
		now, err := yamlLines(o.New)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s %s %s:\n", kindWord(o.Kind), plain(o.Key), o.Action)
		for _, l := range lineDiff(old, now) {
			fmt.Fprintln(w, strings.TrimRight(string(l.sign)+" "+plain(l.text), " "))
		}
	}
	if len(objects) == 0 {
		fmt.Fprintln(w, "No differences.")
	}
	return nil
}

// yamlLines shows an object as a document has it.
func yamlLines(v any) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	b, err := document.Marshal(v)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), nil
}

// documented gives an empty object of a kind to decode into; of one that this
// release does not know, anything.
func documented(kind string) any {
	switch kind {
	case "provider-address":
		return new(v1.ProviderAddress)
	case "provider-route":
		return new(v1.ProviderRoute)
	case "tenant":
		return new(v1.Tenant)
	case "acl":
		return new(v1.ACL)
	case "port":
		return new(v1.Port)
	case "record":
		return new(v1.LookupRecord)
	case "customer-route":
		return new(v1.CustomerRoute)
	case "nat-mapping":
		return new(v1.NATMapping)
	case "attachment":
		return new(v1.Attachment)
	case "s2s-connection":
		return new(v1.S2SConnection)
	case "bgp-router":
		return new(v1.BGPRouter)
	case "bgp-peer":
		return new(v1.BGPPeer)
	}
	return new(any)
}

// diffLine is a line of either side, or of both.
type diffLine struct {
	sign byte // '-' it goes, '+' it comes, ' ' it stays
	text string
}

// maxCompared bounds the work on one object: beyond it whatever stands between
// the first and the last difference goes and comes whole.
const maxCompared = 4 << 20

// lineDiff finds the fewest lines that go and come.
func lineDiff(old, now []string) (out []diffLine) {
	emit := func(sign byte, lines ...string) {
		for _, l := range lines {
			out = append(out, diffLine{sign, l})
		}
	}
	head := 0
	for head < min(len(old), len(now)) && old[head] == now[head] {
		head++
	}
	emit(' ', old[:head]...)
	tail := 0
	for tail < min(len(old), len(now))-head && old[len(old)-1-tail] == now[len(now)-1-tail] {
		tail++
	}
	a, b := old[head:len(old)-tail], now[head:len(now)-tail]
	if len(a)*len(b) > maxCompared {
		emit('-', a...)
		emit('+', b...)
		a, b = nil, nil
	}
	// longest[i][j] is the length of what a[i:] and b[j:] have in common.
	longest := make([][]int32, len(a)+1)
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			emit(' ', a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || longest[i+1][j] >= longest[i][j+1]):
			emit('-', a[i])
			i++
		default:
			emit('+', b[j])
			j++
		}
	}
	emit(' ', old[len(old)-tail:]...)
	return out
}
