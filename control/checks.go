package control

import (
	"errors"
	"fmt"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// Check tells what the engines would refuse of a tenant's tunnels, BGP and
// attachments, before any of it is stored. It opens no secrets: a key that is
// another machine's does not keep the state from being read.
func Check(f *hnv.Fabric, n hnv.Name) error {
	t, ok := f.Tenant(n)
	if !ok || t.Gateway == nil {
		return nil
	}
	var errs []error
	if reachesOut(f, n) && f.UplinkKind(t.Gateway.Uplink) != hnv.UplinkRouted {
		errs = append(errs, fmt.Errorf("its gateway's uplink %s is of kind %s: a compartment's own way outside needs one of kind %s, and attachments can be on others", t.Gateway.Uplink, f.UplinkKind(t.Gateway.Uplink), hnv.UplinkRouted))
	}
	for _, a := range routedAttachments(f, t) {
		if a.Uplink != t.Gateway.Uplink {
			errs = append(errs, fmt.Errorf("attachment %s: the tenant's routed uplink is %s: an attachment on another one, %s, has no link to go by", a.Name, t.Gateway.Uplink, a.Uplink))
		}
	}
	// Secrets stand for those that are not looked at.
	any := func(hnv.SecretPlace, hnv.Secret) (string, error) { return s2s.NewPrivateKey().Reveal(), nil }
	tunnels, err := tunnelSpec(f, t, any)
	if err == nil && tunnels != nil {
		err = tunnels.Check()
	}
	errs = append(errs, err)
	word := func(hnv.SecretPlace, hnv.Secret) (string, error) { return "password", nil }
	speaker, err := speakerSpec(f, t, word)
	if err == nil && speaker != nil {
		err = speaker.Check()
	}
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	rules := natSpec(f, t, minCheckMTU, compartmentSpec(f, t, minCheckMTU).External)
	return rules.Check()
}

// minCheckMTU stands for the fabric's, which is not the store's to judge.
const minCheckMTU = 1400
