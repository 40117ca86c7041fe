package server_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// pages reads a list of records to its end.
func (g *gateway) pages(query string, limit int) (all []v1.LookupRecord, answers int) {
	g.t.Helper()
	token := ""
	for {
		path := fmt.Sprintf("/v1/lookup-records?limit=%d&%s", limit, query)
		if token != "" {
			path += "&continue=" + url.QueryEscape(token)
		}
		l := decode[v1.LookupRecordList](g.t, g.must("GET", path, "", 200))
		all = append(all, l.Items...)
		answers++
		if l.Continue == "" {
			return all, answers
		}
		if len(l.Items) != limit || l.Continue == token {
			g.t.Fatalf("an answer of %d records goes on at %q after %q", len(l.Items), l.Continue, token)
		}
		token = l.Continue
	}
}

func id(r v1.LookupRecord) string {
	return fmt.Sprint(r.VSID, r.CA, r.MAC, r.Origin)
}

// Whatever the size of the answers, together they are the list that one would
// be, sorted, each record once; of two tenants with the same addresses too.
func TestPagesAreTheList(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	var items []string
	for _, i := range rand.Perm(120) {
		for _, vsid := range []string{"5001", "6001"} {
			items = append(items, record(vsid, fmt.Sprintf("10.1.1.%d", 20+i), fmt.Sprintf("00:15:5d:00:01:%02x", i)))
		}
		if i%7 == 0 {
			items = append(items, strings.Replace(record("5001", "", fmt.Sprintf("00:15:5d:00:02:%02x", i)), `"ca":""`, `"type":"l2only"`, 1))
		}
	}
	g.must("POST", "/v1/lookup-records/import", `{"items":[`+strings.Join(items, ",")+`]}`, 200)
	for _, query := range []string{"", "tenant=contoso", "vsid=6001", "ca=10.1.1.64/26", "origin=configured", "origin=subnet", "origin=gateway", "tenant=contoso&ca=10.9.9.9"} {
		whole, _ := g.pages(query, 10_000)
		for _, limit := range []int{1, 7, 64, len(whole), len(whole) + 1} {
			if limit == 0 {
				continue
			}
			got, answers := g.pages(query, limit)
			if len(got) != len(whole) || answers != max(1, (len(whole)+limit-1)/limit) {
				t.Errorf("%q by %d: %d records in %d answers, want %d", query, limit, len(got), answers, len(whole))
				continue
			}
			for i := range got {
				if id(got[i]) != id(whole[i]) {
					t.Errorf("%q by %d: record %d is %s, want %s", query, limit, i, id(got[i]), id(whole[i]))
					break
				}
			}
		}
	}
	all, _ := g.pages("", 10_000)
	// 242 with a CA, 18 l2only; 2 of compartments, 4 of virtual subnets.
	if len(all) != 242+18+2+4 {
		t.Errorf("%d records", len(all))
	}
	seen := map[string]bool{}
	for i, r := range all {
		if seen[id(r)] {
			t.Errorf("%s is there twice", id(r))
		}
		seen[id(r)] = true
		if i > 0 && all[i-1].VSID > r.VSID {
			t.Errorf("VSID %d comes after %d", r.VSID, all[i-1].VSID)
		}
	}
	if l := decode[v1.LookupRecordList](t, g.must("GET", "/v1/lookup-records?limit=3", "", 200)); len(l.Items) != 3 || l.Continue == "" {
		t.Errorf("%d records, continue %q", len(l.Items), l.Continue)
	}
}

// A list goes on where it was though the record it stopped at is deleted, and
// nothing that stays is missing or given twice.
func TestPagesWhileRecordsChange(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	for i := range 30 {
		g.must("POST", "/v1/lookup-records", record("5001", fmt.Sprintf("10.1.1.%d", 100+i), fmt.Sprintf("00:15:5d:00:01:%02x", i)), 201)
	}
	first := decode[v1.LookupRecordList](t, g.must("GET", "/v1/lookup-records?vsid=5001&origin=configured&limit=10", "", 200))
	last := first.Items[9]
	g.must("DELETE", fmt.Sprintf("/v1/lookup-records/5001/%s", last.CA), "", 204)
	g.must("POST", "/v1/lookup-records", record("5001", "10.1.1.12", "00:15:5d:00:03:01"), 201) // behind us
	rest := decode[v1.LookupRecordList](t, g.must("GET", "/v1/lookup-records?vsid=5001&origin=configured&limit=10000&continue="+first.Continue, "", 200))
	if len(rest.Items) != 21 || rest.Items[0].CA != "10.1.1.109" || rest.Continue != "" {
		t.Errorf("%d records from %s on, continue %q", len(rest.Items), rest.Items[0].CA, rest.Continue)
	}
}

func TestBadPages(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	for query, says := range map[string]string{
		"limit=0": "limit", "limit=10001": "limit", "limit=x": "limit", "origin=mine": "origin",
		"continue=x": "begin the list anew", "continue=!": "begin the list anew", "continue=OS81MDAxLzEwLjEuMS4x": "begin the list anew", "continue=MC81": "begin the list anew",
	} {
		if r := g.call("GET", "/v1/lookup-records?"+query, ""); r.code != 422 || !strings.Contains(r.Detail, says) {
			t.Errorf("%s: %d %s", query, r.code, r.body)
		}
	}
}

// BenchmarkListRecords lists records to the end, all of one virtual subnet.
func BenchmarkListRecords(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := servertest.NewStore(site)
			h := server.New(s, &servertest.Backend{Store: s}, nil, slog.New(slog.DiscardHandler)).Handler()
			fill(b, s, n)
			for b.Loop() {
				var l v1.LookupRecordList
				for first := true; first || l.Continue != ""; first = false {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/v1/lookup-records?limit=5000&continue="+l.Continue, nil))
					l = v1.LookupRecordList{}
					if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 200 {
						b.Fatal(w.Code, err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
		})
	}
}

func fill(tb testing.TB, s *servertest.Store, n int) {
	tb.Helper()
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	read := func(o hnv.Object, err error) hnv.Change {
		must(err)
		return hnv.Change{Put: o}
	}
	changes := []hnv.Change{
		read(v1.ProviderAddress{Address: "192.168.1.1/24", Interface: "eth1"}.Object()),
		read(v1.Tenant{Name: "contoso", Encap: "nvgre", Subnets: []v1.Subnet{{VSID: 5001, Prefixes: []string{"10.0.0.0/8"}}}}.Object()),
	}
	for i := range n {
		r, err := v1.LookupRecord{
			VSID: 5001, CA: fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&0xff, i&0xff), MAC: fmt.Sprintf("00155D%06X", i+1), PA: "192.168.1.10", Rule: "nvgre",
		}.Object()
		must(err)
		changes = append(changes, hnv.Change{Put: r})
	}
	_, err := s.UpdateFunc(tb.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return changes, nil })
	must(err)
}
