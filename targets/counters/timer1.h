/* SPDX-License-Identifier: Apache-2.0 */
/* Timer 1 of an AVR at the core's clock, of 16 bits, with an interrupt for each time that they overflow; it takes less than one cycle in a
 * thousand, and is counted. The timer belongs to the measurement meanwhile, and stands still behind it. */
#include <stdint.h>
#include <avr/interrupt.h>
#include <avr/io.h>

#define QRNN_COUNTER "Timer 1"
#define QRNN_COUNTER_UNIT "cycles"
#define QRNN_COUNTER_SPANS

static volatile uint16_t qrnn_counter_high;
static uint8_t qrnn_counter_interrupts;

ISR(TIMER1_OVF_vect)
{
    qrnn_counter_high++;
}

static void qrnn_counter_start(void)
{
    qrnn_counter_interrupts = SREG;
    TCCR1A = 0;
    TCCR1B = _BV(CS10);
    TIMSK1 = _BV(TOIE1);
    sei();
}

static void qrnn_counter_stop(void)
{
    TIMSK1 = 0;
    TCCR1B = 0;
    SREG = qrnn_counter_interrupts;
}

static void qrnn_counter_begin(void)
{
    cli();
    TCNT1 = 0;
    TIFR1 = _BV(TOV1);
    qrnn_counter_high = 0;
    sei();
}

static uint32_t qrnn_counter_end(void)
{
    uint16_t low, high;

    cli();
    low = TCNT1;
    high = qrnn_counter_high;
    if (((TIFR1 & _BV(TOV1)) != 0) && (low < 0x8000U)) {
        high++; /* it has overflowed, and the interrupt waits */
    }
    sei();
    return ((uint32_t)high << 16) | low;
}
