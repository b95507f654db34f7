#include "clients/cli/layers.h"

#include "tests/unit/base/unit.h"

#include <stdlib.h>

static void check_places(const struct layers *layers)
{
    for (unsigned layer = 0; layer < layers->layers_count; layer++) {
        for (size_t i = layers->layer_begin[layer] + 1; i < layers->layer_begin[layer + 1]; i++) {
            const struct layer_point *left = &layers->points[layers->order[i - 1]];
            const struct layer_point *right = &layers->points[layers->order[i]];
            assert_true(right->x - left->x > (left->width + right->width) / 2 + layers->gap - 0.01);
        }
    }
    for (size_t i = 0; i < layers->points_count; i++) {
        const struct layer_point *point = &layers->points[i];
        assert_true(point->x - point->width / 2 > -0.01);
        assert_true(point->x + point->width / 2 < layers->total_width + 0.01);
    }
}

static void a_point_is_below_all_that_lead_to_it(void **state)
{
    (void)state;
    struct layers layers;
    layers_init(&layers, 10);
    for (int i = 0; i < 4; i++)
        layers_add_point(&layers, 50);
    layers_add_line(&layers, 0, 1);
    layers_add_line(&layers, 1, 2);
    layers_add_line(&layers, 2, 3);
    size_t far = layers_add_line(&layers, 0, 3);
    layers_arrange(&layers);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(layers.points[i].layer, i);
    assert_int_equal(layers.lines[far].bends, 2);
    assert_int_equal(layers.points[layers.lines[far].bend].layer, 1);
    check_places(&layers);
    layers_fini(&layers);
}

static void nothing_overlaps_whatever_the_graph(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 50; seed++) {
        struct layers layers;
        layers_init(&layers, 10);
        srand(seed);
        size_t count = 1 + (size_t)(rand() % 60);
        for (size_t i = 0; i < count; i++)
            layers_add_point(&layers, 20 + rand() % 200);
        for (size_t i = 1; i < count; i++)
            layers_add_line(&layers, (size_t)rand() % i, i);
        layers_arrange(&layers);
        for (size_t i = 0; i < layers.lines_count; i++)
            assert_true(layers.points[layers.lines[i].to].layer > layers.points[layers.lines[i].from].layer);
        check_places(&layers);
        layers_fini(&layers);
    }
}

static void chains_stand_straight(void **state)
{
    (void)state;
    struct layers layers;
    layers_init(&layers, 10);
    for (size_t i = 0; i < 5; i++)
        layers_add_point(&layers, 30 + 20 * (double)i);
    for (size_t i = 1; i < 5; i++)
        layers_add_line(&layers, i - 1, i);
    layers_arrange(&layers);
    for (size_t i = 1; i < 5; i++)
        assert_true(layers.points[i].x - layers.points[0].x < 0.01 && layers.points[0].x - layers.points[i].x < 0.01);
    layers_fini(&layers);
}

static void loops_and_nothing_at_all_do_no_harm(void **state)
{
    (void)state;
    struct layers layers;
    layers_init(&layers, 10);
    layers_arrange(&layers);
    assert_int_equal(layers.layers_count, 0);
    layers_fini(&layers);

    layers_init(&layers, 10);
    for (size_t i = 0; i < 4; i++)
        layers_add_point(&layers, 50);
    layers_add_line(&layers, 0, 1);
    layers_add_line(&layers, 1, 2);
    layers_add_line(&layers, 2, 1);
    layers_add_line(&layers, 3, 3);
    layers_arrange(&layers);
    assert_int_equal(layers.points_count, 4);
    check_places(&layers);
    layers_fini(&layers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_point_is_below_all_that_lead_to_it),
        cmocka_unit_test(nothing_overlaps_whatever_the_graph),
        cmocka_unit_test(chains_stand_straight),
        cmocka_unit_test(loops_and_nothing_at_all_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
