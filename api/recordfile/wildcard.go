package recordfile

import (
	"slices"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// unspecified tells whether a record is, in Windows' way, of no address or of
// any; the family is "4" or "6".
func unspecified(ca string) (family string, ok bool) {
	switch ca {
	case "0.0.0.0":
		return "4", true
	case "::":
		return "6", true
	}
	return "", false
}

func familyOf(ca string) string {
	if strings.Contains(ca, ":") {
		return "6"
	}
	return "4"
}

// wildcards brings the records of 0.0.0.0 and :: into our form. Of type L2Only
// they are records without an address. Any other says that this machine speaks
// for the addresses that no record has, which here is the type of the record of
// its own address.
func (p *parser) wildcards() {
	type station struct {
		vsid        uint32
		mac, family string
	}
	at := func(r *v1.LookupRecord, family string) station {
		return station{r.VSID, plainMAC(r.MAC), family}
	}
	own := map[station][]int{} // records with an address, by machine
	any := false
	for i := range p.file.Records {
		r := &p.file.Records[i]
		if _, ok := unspecified(r.CA); ok {
			any = true
			if r.Type == "l2only" {
				r.CA = ""
			}
		} else if r.CA != "" {
			s := at(r, familyOf(r.CA))
			own[s] = append(own[s], i)
		}
	}
	if !any {
		return
	}
	gone := make([]bool, len(p.file.Records))
	for i := range p.file.Records {
		r := &p.file.Records[i]
		family, ok := unspecified(r.CA)
		if !ok {
			continue
		}
		speakers := own[at(r, family)]
		if len(speakers) == 0 {
			p.fail(p.file.Lines[i], "the record of %s says that MAC %s in VSID %d is a gateway for all other addresses, but the file has no record of an address of that gateway", r.CA, r.MAC, r.VSID)
			continue
		}
		for _, j := range speakers {
			o := &p.file.Records[j]
			if o.PA != r.PA {
				p.fail(p.file.Lines[i], "the gateway of %s in VSID %d is behind %s here, but behind %s in line %d", r.CA, r.VSID, r.PA, o.PA, p.file.Lines[j])
			}
			o.Type = "gateway-wildcard"
		}
		gone[i] = true
		p.file.Wildcards++
	}
	i := 0
	drop := func() bool { i++; return gone[i-1] }
	p.file.Lines = slices.DeleteFunc(p.file.Lines, func(int) bool { return drop() })
	i = 0
	p.file.Records = slices.DeleteFunc(p.file.Records, func(v1.LookupRecord) bool { return drop() })
}

// plainMAC is a MAC address in the one form that is compared.
func plainMAC(s string) string {
	return strings.ToUpper(strings.NewReplacer(":", "", "-", "").Replace(s))
}
