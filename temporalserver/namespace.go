package temporalserver

import (
	"context"
	"fmt"
	"maps"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/persistence/serialization"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/searchattribute/sadefs"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

// makeNamespace creates the namespace if it is not there, and gives it the
// search attributes that it lacks. No service runs yet: each would take its
// time to notice.
func (db *database) makeNamespace(o *Options) error {
	ns, err := sqliteschema.NewNamespaceConfig(clusterName, o.Namespace, false, nil)
	if err != nil {
		return err
	}
	ns.Detail.Config.Retention = durationpb.New(o.Retention)
	if err := sqliteschema.CreateNamespaces(db.config, ns); err != nil {
		return err
	}
	if len(o.SearchAttributes) == 0 {
		return nil
	}

	store, ok := db.admin.(sqlplugin.Namespace)
	if !ok {
		return fmt.Errorf("add search attributes: %T keeps no namespaces", db.admin)
	}
	ctx := context.Background()
	rows, err := store.SelectFromNamespace(ctx, sqlplugin.NamespaceFilter{Name: &o.Namespace})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", o.Namespace, err)
	}
	encoding, err := enumspb.EncodingTypeFromString(rows[0].DataEncoding)
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", o.Namespace, err)
	}
	codec := serialization.NewSerializer()
	detail, err := codec.NamespaceDetailFromBlob(&commonpb.DataBlob{Data: rows[0].Data, EncodingType: encoding})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", o.Namespace, err)
	}
	names, err := assign(detail.Config.CustomSearchAttributeAliases, o.SearchAttributes)
	if err != nil {
		return err
	}
	detail.Config.CustomSearchAttributeAliases = names
	blob, err := codec.NamespaceDetailToBlob(detail)
	if err != nil {
		return err
	}
	rows[0].Data, rows[0].DataEncoding = blob.Data, blob.EncodingType.String()
	if _, err := store.UpdateNamespace(ctx, &rows[0]); err != nil {
		return fmt.Errorf("write namespace %s: %w", o.Namespace, err)
	}
	return nil
}

// assign gives a column of the right type to each search attribute that has
// none. The database has so many columns of each type; names says which have
// been given to whom.
func assign(names, given map[string]string) (map[string]string, error) {
	types, err := searchAttributes(given)
	if err != nil {
		return nil, err
	}
	all := map[string]string{} // also where there was none yet
	maps.Copy(all, names)
	columns := sadefs.GetDBIndexSearchAttributes(nil).CustomSearchAttributes
	for _, name := range slices.Sorted(maps.Keys(types)) {
		bad := func(format string, args ...any) error {
			return &OptionError{"SearchAttributes", name + "=" + given[name], fmt.Errorf(format, args...)}
		}
		has, free := "", ""
		for _, column := range slices.Sorted(maps.Keys(columns)) {
			switch {
			case all[column] == name:
				has = column
			case all[column] == "" && free == "" && columns[column] == types[name]:
				free = column
			}
		}
		switch {
		case has != "" && columns[has] != types[name]:
			return nil, bad("the namespace has it as %v", columns[has])
		case has == "" && free == "":
			return nil, bad("the namespace can't have more of this type")
		case has == "":
			all[free] = name
		}
	}
	return all, nil
}
